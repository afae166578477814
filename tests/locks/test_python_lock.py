"""The lock of the images' own Python."""

from __future__ import annotations

import pytest

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError
from buildkit.locks.pins import PythonArchive
from buildkit.locks.python_lock import (
    find_locked_release,
    find_stale_python,
    get_python,
    parse_python_lock,
    render_python_lock,
)
from buildkit.locks.root_release import find_root_release

TARGET = Target(python="3.12", glibc="2.41", arch="x86_64", standalone=True)
ARCHIVES = tuple(
    PythonArchive(
        version="3.12.16", build="20261110", arch=arch, sha256=FileHash.of(arch.encode()), size=7,
        url=f"https://example.org/20261110/cpython-3.12.16%2B20261110-{arch}.tar.gz",
    )
    for arch in ("aarch64", "x86_64")
)  # fmt: skip
LOCK = render_python_lock(ARCHIVES, TARGET)


def test_lock_is_read_as_it_was_written() -> None:
    assert parse_python_lock(LOCK) == ARCHIVES
    assert render_python_lock(ARCHIVES[::-1], TARGET) == LOCK
    assert get_python(LOCK, TARGET) == ARCHIVES[1]
    assert ARCHIVES[1].file == "cpython-3.12.16+20261110-x86_64.tar.gz"
    assert ARCHIVES[1].release == "3.12.16+20261110"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "the lock is missing"),
        (LOCK.partition("\n")[2], "does not say what it was made from"),
        (render_python_lock(ARCHIVES[:1], TARGET), "has no archive for x86_64"),
        (LOCK.replace('"3.12.16"', '"3.12"'), "`3.12` is not a release of Python (3.12.16)"),
        (LOCK.replace("aarch64", "x86_64"), "names a processor twice"),
        (f"{LOCK}>>>>>>> theirs\n", "(run: nox -s lock)"),
        (LOCK.replace("https://", "file://"), "is not a URL"),
        (LOCK.replace("https://", "https://me:secret@"), "holds a password in a URL"),
    ],
)
def test_lock_that_pins_no_python_is_refused(text: str | None, what: str) -> None:
    with pytest.raises(DefinitionError, match=r"requirements/python\.lock") as error:
        get_python(text, TARGET)
    assert what in str(error.value.problems[0])


def test_another_python_in_the_settings_makes_the_lock_stale() -> None:
    other = Target(python="3.13", glibc="2.41", arch="x86_64")
    problem = find_stale_python(LOCK, other)
    assert problem is not None
    assert problem.what == "the lock is older than its input"
    assert find_stale_python(LOCK, TARGET) is None


def test_release_of_requirements_is_that_of_the_lock_whatever_the_root() -> None:
    for text, release in ((LOCK, "3.12.16"), (None, ""), ("nonsense", "")):
        assert find_root_release((("base.apt",),), {"requirements/python.lock": text}.get, TARGET) == release
        assert find_locked_release(text) == release
