"""Where code comes from: layers with whiteouts and links, mounts with odd names, maps, and scripts of interpreters."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit.running.proc import parse_mounts, parse_status
from buildkit.tools.code_places import find_layer, find_mount, find_place, find_script, mapped_code

MOUNTS = parse_mounts(
    "1 0 0:1 / / ro - overlay overlay rw\n"
    "2 1 0:2 / /tmp rw,noexec - tmpfs tmpfs rw\n"
    "3 1 0:3 / /tmp rw - ext4 /dev/x rw\n"
    "4 1 0:4 / /da\\040ta\\012x rw - ext4 /dev/x rw\n"
    "5 1 0:5 / /line\x0b\x85end rw - ext4 /dev/x rw\n"
)


@pytest.fixture
def layers(tmp_path: Path) -> list[str]:
    """An overlay of three folders, the writable one first."""
    for name in ("upper", "middle", "lowest"):
        (tmp_path / name / "usr/bin").mkdir(parents=True)
    (tmp_path / "lowest/usr/bin/python").touch()
    (tmp_path / "middle/usr/bin/tool").touch()
    (tmp_path / "upper/usr/bin/evil").touch()
    return [str(tmp_path / name) for name in ("upper", "middle", "lowest")]


def test_file_is_found_in_the_layer_that_has_it(layers: list[str]) -> None:
    assert find_layer("/usr/bin/python", layers) == "image"
    assert find_layer("/usr/bin/tool", layers) == "image"
    assert find_layer("/usr/bin/evil", layers) == "written"
    assert find_layer("/usr/bin/none", layers) == "absent"
    assert find_layer("/usr/bin/python/x", layers) == "absent", "it is no folder"
    (Path(layers[0]) / "usr/bin/python").touch()
    assert find_layer("/usr/bin/python", layers) == "written", "it was replaced"


def test_layers_that_cannot_be_read_are_unknown(layers: list[str]) -> None:
    assert find_layer("/usr/bin/python", []) == "unknown"
    assert find_layer("/usr/bin/python", [layers[0], f"{layers[1]}/gone"]) == "unknown"


def test_links_of_the_container_are_not_followed(layers: list[str]) -> None:
    """Else it would make another folder look like a layer that has no such file."""
    upper = Path(layers[0])
    (upper / "usr/bin/evil").unlink()
    (upper / "usr/bin").rmdir()
    (upper / "usr/bin").symlink_to("/usr/bin")
    assert find_layer("/usr/bin/python", layers) == "absent"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_whiteouts_and_opaque_folders_hide_layers_below(layers: list[str]) -> None:
    upper = Path(layers[0])
    os.mknod(upper / "usr/bin/tool", 0o020000, os.makedev(0, 0))
    assert find_layer("/usr/bin/tool", layers) == "absent"
    os.setxattr(upper / "usr/bin", "trusted.overlay.opaque", b"y")
    assert find_layer("/usr/bin/python", layers) == "absent"
    assert find_layer("/usr/bin/evil", layers) == "written"
    assert find_layer("/usr/python", layers) == "absent"


def test_mount_with_the_longest_path_has_a_file_and_of_two_the_later() -> None:
    kinds = {
        "/usr/bin/x": "overlay", "/tmp/x": "ext4", "/tmpx": "overlay", "/da ta\nx/y": "ext4",
        "/line\x0b\x85end/y": "ext4",
    }  # fmt: skip
    for path, kind in kinds.items():
        mount = find_mount(path, MOUNTS)
        assert mount is not None
        assert mount.kind == kind, path
    assert find_mount("/x", ()) is None


def test_places_of_deleted_unnamed_and_mounted_files(layers: list[str]) -> None:
    root, tmp = MOUNTS[0], MOUNTS[2]
    assert find_place("/memfd:x", root, layers, deleted=True) == "memory"
    assert find_place("/memfd:x", root, layers, deleted=False) == "absent", "a file of that name"
    assert find_place("/usr/bin/python", root, layers, deleted=True) == "gone"
    assert find_place("/tmp/x", tmp, layers, deleted=False) == "mount"
    assert find_place("/x", None, layers, deleted=False) == "unknown"


def test_only_mapped_code_counts() -> None:
    maps = (
        b"7f0-7f1 r--p 00000000 fe:00 1 /usr/lib/data\n"
        b"7f1-7f2 r-xp 00000000 fe:00 2                          /usr/lib/li b.so\n"
        b"7f2-7f3 rwxp 00000000 00:00 0 \n"
        b"7f3-7f4 r-xp 00000000 00:00 0 [vdso]\n"
        b"7f4-7f5 r-xp 00000000 00:01 9 /memfd:e\\012vil (deleted)\n"
        b"7f5-7f6 r-xs 00000000 00:01 9 /tmp/\xff\x0b (deleted)\n"
        b"odd\n"
    )
    assert list(mapped_code(maps)) == [
        ("/usr/lib/li b.so", False), ("/memfd:e\nvil", True), ("/tmp/\udcff\x0b", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("program", "cmdline", "script"),
    [
        ("/usr/bin/python3.13", b"python\0-u\0/tmp/x.py\0-c\0", "/tmp/x.py"),
        ("/usr/bin/bash", b"sh\0x.sh\0", "/work/x.sh"),
        ("/usr/bin/bash", b"sh\0../x.sh\0", "/x.sh"),
        ("/usr/bin/python3.13", b"python\0-m\0uvicorn\0", ""),
        ("/usr/bin/bash", b"sh\0-c\0/tmp/x\0", ""),
        ("/usr/bin/bash", b"bash\0-\0", ""),
        ("/usr/bin/bash", b"bash\0", ""),
        ("/usr/bin/bash", b"", ""),
        ("/usr/sbin/nginx", b"nginx\0/tmp/x\0", ""),
    ],
)
def test_script_of_an_interpreter(program: str, cmdline: bytes, script: str) -> None:
    assert find_script(program, cmdline, "/work") == script


def test_name_of_a_process_forges_no_line_of_its_status() -> None:
    text = "Name:\tx\x0bNoNewPrivs:\t1\nUid:\t0 0 0 0\nGid:\t0 0 0 0\nNoNewPrivs:\t0\n"
    status = parse_status(text)
    assert status.name == "x\x0bNoNewPrivs:\t1"
    assert not status.no_new_privileges
