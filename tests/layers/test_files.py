"""Application files are packed as git has them: content, executable bit, links."""

import os
import time

import pytest
from wheelmaker import read_layer

from buildkit.digest import FileHash
from buildkit.errors import BuildError, MismatchError
from buildkit.layers.files import CopiedFile, file_members, read_file

GOLDEN = "sha256:6ed1cb5a5259aed952b701cc9a59515bdd729ade2d2884eaf8a3479e078c78e6"


def write(root):
    (root / "sub").mkdir(parents=True)
    (root / "main.py").write_bytes(b"print()\n")
    (root / "sub" / "run").write_bytes(b"#!/bin/sh\n")
    (root / "link").symlink_to("sub/../main.py")
    return [
        CopiedFile("sub/run", executable=True),
        CopiedFile("main.py", sha256=FileHash.of(b"print()\n")),
        CopiedFile("link"),
    ]


def test_files_links_and_executable_bits_are_kept(tmp_path):
    found, packed = read_layer(file_members(tmp_path / "a", write(tmp_path / "a"), "/srv/app"))
    assert found == {
        "srv/app/link": ("sub/../main.py", True),
        "srv/app/main.py": (b"print()\n", False),
        "srv/app/sub/run": (b"#!/bin/sh\n", True),
    }
    assert str(packed.diff_id) == GOLDEN


def test_layer_does_not_depend_on_order_modes_times_or_folder(tmp_path):
    files = write(tmp_path / "other")
    umask = os.umask(0)
    try:
        (tmp_path / "other" / "main.py").chmod(0o6777)
        os.utime(tmp_path / "other" / "main.py", (time.time(), 1))
    finally:
        os.umask(umask)
    _, packed = read_layer(file_members(tmp_path / "other", files[::-1], "srv/app/"))
    assert str(packed.diff_id) == GOLDEN


def test_single_file_can_be_the_target(tmp_path):
    (tmp_path / "only").write_bytes(b"x")
    assert list(read_layer(file_members(tmp_path / "only", [CopiedFile(".")], "/etc/only.conf"))[0]) == [
        "etc/only.conf"
    ]
    assert list(read_layer(file_members(tmp_path, [CopiedFile("only")], "/"))[0]) == ["only"]


def says_that_it_changed(members, path):
    with pytest.raises(MismatchError) as caught:
        read_layer(members)
    return (caught.value.message, caught.value.hint) == (f"{path} has changed since the build began", "build again")


@pytest.mark.parametrize("later", [b"shorter", b"much longer than it was before"])
def test_file_with_changed_size_raises_an_error(tmp_path, later):
    (tmp_path / "f").write_bytes(b"as it was once")
    members = list(file_members(tmp_path, [CopiedFile("f")], "/app"))
    (tmp_path / "f").write_bytes(later)
    assert says_that_it_changed(members, tmp_path / "f")


def test_file_with_changed_bytes_raises_an_error_if_its_hash_is_known(tmp_path):
    (tmp_path / "f").write_bytes(b"new")
    assert says_that_it_changed(
        file_members(tmp_path, [CopiedFile("f", sha256=FileHash.of(b"old"))], "/app"), tmp_path / "f"
    )


def test_missing_or_special_file_raises_an_error_that_names_it(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, says in (("gone", "cannot be read"), ("folder", "neither"), ("pipe", "neither")):
        with pytest.raises(BuildError, match=f"{name}.*{says}"):
            read_layer(file_members(tmp_path, [CopiedFile(name)], "/app"))


def test_large_file_is_read_in_chunks(tmp_path):
    (tmp_path / "f").write_bytes(bytes(3 << 20))
    assert max(len(chunk) for chunk in read_file(tmp_path / "f")) <= 1 << 20


def test_changed_link_or_link_in_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("there")
    (link,) = file_members(tmp_path, [CopiedFile("link", False, FileHash.of(b"there"))], "/app")
    assert link.target == "there"
    for other in (FileHash.of(b"elsewhere"), FileHash.of(b"content of a file")):
        with pytest.raises(MismatchError, match="link has changed"):
            list(file_members(tmp_path, [CopiedFile("link", False, other)], "/app"))
