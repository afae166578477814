"""Apt lists and locks."""

import pytest

from buildkit.digest import FileHash
from buildkit.errors import DefinitionError
from buildkit.locks.apt_lock import AptLock, apt_lock_path, parse_apt_list, parse_apt_lock, render_apt_lock
from buildkit.locks.pins import AptPin

LOCK = AptLock(
    inputs=FileHash.of(b"x"),
    pins=(AptPin(name="bsdutils", version="1:2.41.5-0+deb13u1"), AptPin(name="libstdc++6", version="14.2.0-19")),
)


def test_apt_list_is_sorted_without_comments():
    assert parse_apt_list("python3 # the interpreter\n\n# tls\nca-certificates\npython3\n", "x") == (
        "ca-certificates",
        "python3",
    )


def test_apt_list_reports_every_invalid_line():
    with pytest.raises(DefinitionError) as caught:
        parse_apt_list("gcc\ngcc g++\nlibc6=2.41\nÜ\n--no-install-recommends\n", "requirements/base.apt")
    assert [problem.file for problem in caught.value.problems] == [f"requirements/base.apt:{n}" for n in (2, 4, 5)]


def test_version_in_an_apt_list_is_a_constraint():
    assert parse_apt_list("zlib1g\nca-certificates = 20250419\nca-certificates\n", "x.apt") == (
        "ca-certificates=20250419",
        "zlib1g",
    )
    for text, what in (("gcc=1\ngcc=2\n", "gcc is asked for in two versions"), ("gcc=x\n", "`gcc=x` is not a Debian")):
        with pytest.raises(DefinitionError, match=what):
            parse_apt_list(text, "x.apt")


def test_apt_lock_is_read_back_in_any_order():
    text = render_apt_lock(AptLock(inputs=LOCK.inputs, pins=LOCK.pins[::-1]))
    assert parse_apt_lock(text, "x") == LOCK
    assert text.splitlines()[2:] == ["bsdutils=1:2.41.5-0+deb13u1", "libstdc++6=14.2.0-19"]


def test_apt_lock_reports_every_invalid_line():
    with pytest.raises(DefinitionError) as caught:
        parse_apt_lock("a\nbb=\nlibc6=2.41\nlibc6=2.42\ncc=1;rm\n", "x.lock")
    assert len(caught.value.problems) == 5  # four lines and the header


def test_package_of_another_architecture_is_refused_with_the_name_to_write():
    with pytest.raises(DefinitionError) as caught:
        parse_apt_list("libc6:i386\n", "x.apt")
    (problem,) = caught.value.problems
    assert problem.what == "`libc6:i386` names an architecture, and a root has one for all"
    assert problem.hint == "write libc6: `arch` in [tool.buildkit] says of which"


@pytest.mark.parametrize("line", ["Bad=1", "a=1", "--opt=1", "bad name=1", "bb=", "bb=x1", "bb", "bb=1;rm"])
def test_apt_lock_with_one_invalid_line_is_refused(line):
    """Name and version are each checked, although the lock is complete otherwise."""
    with pytest.raises(DefinitionError) as caught:
        parse_apt_lock(f"{render_apt_lock(LOCK)}{line}\n", "x.lock")
    (problem,) = caught.value.problems
    assert (problem.file, problem.what) == ("x.lock:5", f"`{line}` is not name=version")


@pytest.mark.parametrize(("line", "hinted"), [("libc6=2 .41", True), ("gcc g++", True), ("Ü", False)])
def test_hint_explains_only_versions_and_several_names(line, hinted):
    with pytest.raises(DefinitionError) as caught:
        parse_apt_list(line, "x.apt")
    assert ("one package per line" in caught.value.problems[0].hint) == hinted


@pytest.mark.parametrize(
    "parse", [parse_apt_list, lambda text, file: parse_apt_lock(render_apt_lock(LOCK) + text, file)]
)
def test_message_quotes_eighty_characters_of_a_line(parse):
    with pytest.raises(DefinitionError) as caught:
        parse("é" * 100, "x")
    assert caught.value.problems[0].what.startswith(f"`{'é' * 80}` ")


def test_lock_of_another_processor_has_it_in_its_name():
    assert apt_lock_path("requirements/base.apt") == "requirements/base.apt.lock"
    assert apt_lock_path("requirements/base.apt", "aarch64") == "requirements/base.aarch64.apt.lock"
    assert apt_lock_path("packages", "aarch64") == "packages.aarch64.lock"
