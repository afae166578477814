"""Pins that a resolver writes without hashes get those of the version's files."""

import hashlib
import threading
from contextlib import closing

import pytest

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.resolve.missing_hashes import complete_hashes
from buildkit.tools.http import HttpSession, RetryPolicy
from buildkit.tools.index_settings import IndexSettings, PackageSources
from buildkit.tools.indexes import Indexes
from tests.resolve.fileserver import serve_folder

TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")
FILES = ("a-1.0-py3-none-any.whl", "a-1.0.tar.gz", "a-2.0.tar.gz", "a-1.0-cp39-cp39-win_amd64.whl")


def hash_of(file):
    return str(FileHash(hashlib.sha256(file.encode()).hexdigest()))


@pytest.fixture
def links(tmp_path):
    for name in FILES:
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def hashes(link, extra=""):
    sources = PackageSources(pip=IndexSettings(no_index=True, find_links=(link,)), uv=IndexSettings())
    with closing(HttpSession(sources, RetryPolicy(threading.Event()))) as session:
        return [str(item) for item in Indexes(sources, session, TARGET).find_hashes("a", "1.0")]


def test_all_files_of_a_folder_are_hashed(links):
    fit = [hash_of(name) for name in FILES[:2]]
    assert hashes(str(links)) == sorted(fit)


def test_hashes_of_a_page_are_taken_and_missing_ones_computed_for_files_that_fit(links):
    said = "".join(f'<a href="{name}#sha256={"0" * 63}{number}">x</a>' for number, name in enumerate(FILES))
    (links / "said.html").write_text(said)
    (links / "silent.html").write_text("".join(f'<a href="{name}">x</a>' for name in FILES))
    with serve_folder(links) as url:
        assert hashes(f"{url}/said.html") == [f"sha256:{'0' * 63}{number}" for number in (0, 1, 3)]
        assert hashes(f"{url}/silent.html") == sorted(hash_of(name) for name in FILES[:2])


def test_pins_without_hashes_or_with_one_are_completed():
    text = (
        "--no-binary a\na==1.0\n    # via b\nb==2 ; sys_platform == 'linux'\nc==3 \\\n    --hash=sha256:1\n./libs/d\n"
        "e==4 \\\n    --hash=sha256:2 \\\n    --hash=sha256:3\n    # via a\n"
    )
    asked = []

    def find(*pin):
        asked.append(pin)
        return {"a": ("sha256:x", "sha256:y"), "c": ("sha256:0", "sha256:1")}.get(pin[0], ())

    expected = text.replace("a==1.0\n", "a==1.0 \\\n    --hash=sha256:x \\\n    --hash=sha256:y\n")
    expected = expected.replace("c==3 \\\n", "c==3 \\\n    --hash=sha256:0 \\\n")
    assert complete_hashes(text, find) == expected
    assert asked == [("a", "1.0", []), ("b", "2", []), ("c", "3", ["sha256:1"])]


def test_hashes_are_completed_from_the_source_of_the_known_one_alone(links, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / FILES[0]).write_bytes(b"of somebody else")
    settings = IndexSettings(no_index=True, find_links=(str(other), str(links)))
    sources = PackageSources(pip=settings, uv=IndexSettings())
    with closing(HttpSession(sources, RetryPolicy(threading.Event()))) as session:
        indexes = Indexes(sources, session, TARGET)
        for known in FILES[1], FILES[3]:  # the resolver may have read a file that does not fit
            found = indexes.find_hashes("a", "1.0", [hash_of(known)])
            assert [str(item) for item in found] == sorted(hash_of(name) for name in FILES[:2])
        assert indexes.find_hashes("a", "1.0", ["sha256:" + "0" * 64]) is None
        assert indexes.find_hashes("a", "7.0") is None
