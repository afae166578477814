"""Files that are read while they come: what is read is the file, or nothing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from buildkit.tools.arriving_files import ArrivingFile, ArrivingFiles, NotArrivedError


@pytest.fixture
def files() -> ArrivingFiles:
    return ArrivingFiles()


@pytest.fixture
def path(files: ArrivingFiles, tmp_path: Path) -> Path:
    """A file of which six bytes have come."""
    path = tmp_path / "file"
    path.write_bytes(b"begin,")
    files.report(path, 6)
    return path


def test_read_waits_for_as_much_as_is_asked_for(files: ArrivingFiles, path: Path) -> None:
    with ThreadPoolExecutor(1) as pool, files.open(path) as file:
        assert file.read(4) == b"begi"
        rest = pool.submit(file.read, 6)
        with path.open("ab") as out:
            for piece in (b" m", b"iddle, ", b"end"):
                out.write(piece)
                out.flush()
                files.report(path, out.tell())
        assert rest.result() == b"n, mid"
        rest = pool.submit(file.read)
        files.complete(path)
        assert rest.result() == b"dle, end"
        assert file.read(9) == b""
        files.end()
        assert file.read() == b""


def test_manifest_is_known_before_the_files(files: ArrivingFiles) -> None:
    with ThreadPoolExecutor(1) as pool:
        manifest = pool.submit(files.manifest)
        files.begin(b"it")
        assert manifest.result() == b"it"


@pytest.mark.parametrize("come", [3, 9])
def test_file_that_begins_anew_is_read_no_further(files: ArrivingFiles, path: Path, come: int) -> None:
    """Also if more has come than before when somebody looks."""
    with files.open(path) as file:
        file.read(4)
        files.report(path, 0)
        files.report(path, come)
        files.complete(path)
        with pytest.raises(NotArrivedError):
            file.read(1)


def test_file_that_was_cut_gives_no_end(files: ArrivingFiles, path: Path) -> None:
    with files.open(path) as file:
        path.write_bytes(b"b")  # and it is reported a moment later
        with pytest.raises(NotArrivedError):
            file.read(4)


def test_end_of_the_download_is_no_end_of_a_file(files: ArrivingFiles, path: Path, tmp_path: Path) -> None:
    with files.open(path) as file:
        files.end()
        with pytest.raises(NotArrivedError):
            file.read(9)
    with pytest.raises(NotArrivedError), files.open(tmp_path / "other"):
        pass
    with pytest.raises(NotArrivedError):
        files.manifest()


def test_what_is_withdrawn_is_open_no_longer(files: ArrivingFiles, path: Path) -> None:
    files.complete(path)
    withdrawn = threading.Event()

    def withdraw() -> None:
        files.withdraw()
        withdrawn.set()

    def read_on(file: ArrivingFile) -> None:
        while True:
            file.read(0)

    with ThreadPoolExecutor(1) as pool:
        with files.open(path) as file:
            pool.submit(withdraw)
            with pytest.raises(NotArrivedError):
                read_on(file)
            assert not withdrawn.wait(0.05)
        assert withdrawn.wait(60)
    with pytest.raises(NotArrivedError), files.open(path):
        pass
