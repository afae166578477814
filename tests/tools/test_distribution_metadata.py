"""Requires-Python of distributions on this host and on servers."""

import io
import tarfile
import threading
import zipfile
from contextlib import closing

import pytest

from buildkit.errors import FetchError
from buildkit.tools import distribution_metadata
from buildkit.tools.distribution_metadata import fetch_requires_python, read_requires_python
from buildkit.tools.http import HttpSession, RetryPolicy
from buildkit.tools.index_settings import IndexSettings, PackageSources
from tests.resolve.fileserver import serve_folder

METADATA = b"Metadata-Version: 2.1\nName: a\nRequires-Python: >=3.8,<3.13\n\nRequires-Python: >=4\n"


@pytest.fixture
def folder(tmp_path):
    """A wheel whose metadata comes last, one whose comes first, sdists, and what is neither."""
    for name, order in (("last", 1), ("first", -1)):
        members = [("a/big.bin", bytes(1 << 20)), (f"{name}-1.dist-info/METADATA", METADATA)][::order]
        with zipfile.ZipFile(tmp_path / f"{name}-1-py3-none-any.whl", "w") as archive:
            for member, data in members:
                archive.writestr(member, data)
    with tarfile.open(tmp_path / "sdist-1.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("sdist-1/PKG-INFO")
        entry.size = len(METADATA)
        archive.addfile(entry, io.BytesIO(METADATA))
    with zipfile.ZipFile(tmp_path / "zipped-1.zip", "w") as archive:
        archive.writestr("zipped-1/PKG-INFO", METADATA)
    (tmp_path / "broken-1-py3-none-any.whl").write_bytes(b"no zip")
    (tmp_path / "empty-1.tar.gz").write_bytes(b"")
    return tmp_path


WITH = ("last-1-py3-none-any.whl", "first-1-py3-none-any.whl", "sdist-1.tar.gz", "zipped-1.zip")
WITHOUT = ("broken-1-py3-none-any.whl", "empty-1.tar.gz")


@pytest.fixture
def fetch(folder):
    sources = PackageSources(pip=IndexSettings(), uv=IndexSettings())

    def fetched(name, *, ranges=True):
        session = HttpSession(sources, RetryPolicy(threading.Event(), unit=0))
        with serve_folder(folder, ranges=ranges) as url, closing(session):
            return fetch_requires_python(session, f"{url}/{name}", name)

    return fetched


@pytest.mark.parametrize("name", WITH + WITHOUT)
def test_files_and_servers_say_the_same(folder, fetch, name):
    expected = ">=3.8,<3.13" if name in WITH else ""
    assert read_requires_python(folder / name) == expected
    assert fetch(name) == fetch(name, ranges=False) == expected


def test_of_a_wheel_only_the_end_is_fetched_and_never_too_much(fetch, monkeypatch):
    monkeypatch.setattr(distribution_metadata, "_MOST_FETCHED", 1 << 19)
    assert fetch(WITH[0]) == ">=3.8,<3.13"
    assert fetch(WITH[1]) == ">=3.8,<3.13", "of one that begins with its metadata, two ends"
    assert fetch(WITH[0], ranges=False) == ""


def test_missing_files_say_nothing_and_broken_servers_are_errors(fetch):
    assert fetch("missing-1-py3-none-any.whl") == ""
    sources = PackageSources(pip=IndexSettings(), uv=IndexSettings())
    session = HttpSession(sources, RetryPolicy(threading.Event(), unit=0))
    with closing(session), pytest.raises(FetchError):
        fetch_requires_python(session, "http://127.0.0.1:9/a-1-py3-none-any.whl", "a-1-py3-none-any.whl")
