"""Packages of git repositories: which places a lock may name."""

from __future__ import annotations

import pytest

from buildkit.locks.git_source import GitSource, make_git_source, parse_git_source
from buildkit.locks.requirements_txt import parse_requirements

COMMIT = "a" * 40


@pytest.mark.parametrize(
    ("text", "url", "folder"),
    [
        (f"git+https://h.example/x.git@{COMMIT}", "https://h.example/x.git", ""),
        (f"git+ssh://git@h.example:22/o/x@{COMMIT}#subdirectory=a/b&egg=x", "ssh://git@h.example:22/o/x", "a/b"),
        (f"git+http://127.0.0.1:80/x@{COMMIT}#subdirectory=.", "http://127.0.0.1:80/x", ""),
    ],
)
def test_place_of_pip_is_read_and_written(text: str, url: str, folder: str) -> None:
    source = parse_git_source(text)
    assert source == GitSource(url=url, commit=COMMIT, subdirectory=folder)
    assert parse_git_source(str(source)) == source


def test_address_of_ssh_without_a_scheme_is_one_with_it() -> None:
    assert make_git_source("git@h.example:o/x.git", COMMIT).url == "ssh://git@h.example/o/x.git"
    assert make_git_source("https://h.example/o/X%20y/", COMMIT).stem == f"X-20y-{COMMIT[:12]}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"git+file:///etc@{COMMIT}", "only https or ssh"),
        (f"git+ext::sh -c id@{COMMIT}", "only https or ssh"),
        (f"git+https://-oProxyCommand=id/x@{COMMIT}", "only https or ssh"),
        (f"git+https://me:hush@h.example/x@{COMMIT}", "credentials"),
        (f"git+https://hush@h.example/x@{COMMIT}", "credentials"),
        ("git+https://h.example/x@main", "whole commit"),
        ("git+ssh://git@h.example/x", "whole commit"),
        (f"git+https://h.example/x@{COMMIT}#subdirectory=../y", "outside"),
    ],
)
def test_place_that_no_lock_can_hold_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_git_source(text)


def test_requirements_lock_pins_commits_with_markers_and_extras() -> None:
    text = f"X_y[e] @ git+https://h.example/x@{COMMIT}#subdirectory=s ; sys_platform == 'linux'\n    # via -r a.in\n"
    (pin,) = parse_requirements(f"--no-binary :all:\n{text}", "a.txt")
    assert (pin.name, pin.version, pin.hashes, pin.form) == ("x-y", "", (), "")
    assert pin.git == GitSource(url="https://h.example/x", commit=COMMIT, subdirectory="s")
    assert pin.marker == "sys_platform == 'linux'"
