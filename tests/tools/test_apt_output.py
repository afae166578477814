"""apt's words, as apt 2.6 prints them."""

from __future__ import annotations

import pytest

from buildkit.errors import FetchError, MismatchError
from buildkit.tools.apt_output import find_failure, find_gone


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            "  Could not connect (refused)\nE: Failed to fetch http://vendor.example/x/InRelease  Could not connect\n",
            "http://vendor.example/x could not be reached for trixie",
        ),
        (
            "E: Failed to fetch http://deb.debian.org/debian/dists/trixie/InRelease  Could not resolve\n",
            "http://deb.debian.org/debian could not be reached for trixie",
        ),
        ("  Temporary failure resolving 'deb.debian.org'\n", "the archive could not be reached for trixie"),
    ],
)
def test_archive_that_is_down_is_named(output: str, message: str) -> None:
    failure = find_failure(output, "trixie")
    assert isinstance(failure, FetchError)
    assert (failure.message, failure.output) == (message, output)


def test_root_without_apt_is_told_apart() -> None:
    """Ubuntu's minbase has none."""
    failure = find_failure("/bin/sh: 1: apt-get: not found\n", "noble")
    assert failure is not None
    assert (failure.message, failure.hint) == ("the root has no apt", "add `apt` to the list that [root] names")


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("http://deb.debian.org/debian", "debian-archive-keyring"),
        ("http://archive.ubuntu.com/ubuntu", "ubuntu-keyring"),
        ("https://vendor.example/apt", "[[root.source]]"),
    ],
)
def test_hint_for_a_key_is_that_of_its_archive(uri: str, hint: str) -> None:
    failure = find_failure(f"E: The repository '{uri} noble InRelease' is not signed.\n", "noble")
    assert isinstance(failure, MismatchError)
    assert hint in failure.hint


def test_versions_that_are_gone_have_both_ways_out() -> None:
    gone = find_gone("E: Version '1.0' for 'hello' was not found\nE: Unable to locate package tool\n", "trixie")
    assert gone is not None
    assert gone.message == "the archive no longer has hello=1.0, tool in trixie"
    assert "--upgrade-apt" in gone.hint
    assert "`snapshot` in [root]" in gone.hint


def test_other_words_are_not_explained() -> None:
    assert find_failure("E: Sub-process dpkg returned an error code (1)\n", "trixie") is None
    assert find_gone("E: Sub-process dpkg returned an error code (1)\n") is None
