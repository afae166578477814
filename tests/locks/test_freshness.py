"""Whether a lock is stale is decided by content."""

import pytest

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.locks.freshness import (
    apt_inputs,
    check_fresh,
    find_inputs,
    models_inputs,
    normalise_text,
    render_header,
    requirements_inputs,
    wheels_inputs,
)

TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")
FILES = {
    "requirements/api.in": "fastapi>=1  # web\n\n-r common.in\n-c limits.in\n./libs/textkit\n",
    "requirements/common.in": "idna\n",
    "requirements/limits.in": "idna<4\n",
    "libs/textkit/pyproject.toml": '[project]\nname = "textkit"\n',
}


def inputs(target=TARGET, locker="uv", **changed):
    files = {**FILES, **{name.replace("__", "/").replace("_dot_", "."): text for name, text in changed.items()}}
    return requirements_inputs("requirements/api.in", files.get, target, locker=locker)


def test_comments_and_blank_lines_do_not_change_the_hash():
    assert (
        inputs(requirements__api_dot_in="# hello\nfastapi>=1\n-r common.in\n-c limits.in\n./libs/textkit") == inputs()
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"requirements__api_dot_in": "fastapi>=2\n-r common.in\n-c limits.in\n./libs/textkit"},
        {"requirements__common_dot_in": "idna>=3"},
        {"requirements__limits_dot_in": "idna<3"},
        {"libs__textkit__pyproject_dot_toml": '[project]\nname = "textkit"\ndependencies = ["idna"]\n'},
        {"locker": "pip-tools"},
        {"target": Target(python="3.12", glibc="2.41", arch="x86_64")},
    ],
)
def test_every_input_of_the_resolution_changes_the_hash(changed):
    assert inputs(**changed) != inputs()


def test_circular_includes_terminate():
    files = {"a.in": "-r b.in\nx", "b.in": "-r a.in\ny"}
    assert requirements_inputs("a.in", files.get, TARGET, locker="uv")


def test_wheels_hash_depends_on_pins_and_the_whole_target():
    base = wheels_inputs("a==1 \\\n    --hash=x\n    # via b\n", TARGET)
    assert wheels_inputs("# new\na==1 \\\n  --hash=x\n", TARGET) == base
    assert wheels_inputs("a==2 \\\n    --hash=x\n", TARGET) != base
    assert wheels_inputs("a==1 --hash=x\n", Target(python="3.13", glibc="2.36", arch="x86_64")) != base
    assert wheels_inputs("a==1 --hash=x\n", Target(python="3.13", glibc="2.41", arch="aarch64")) != base


def test_apt_and_models_hashes_depend_on_their_inputs():
    assert apt_inputs("a # x\nb\n", suite="trixie") == apt_inputs("a\nb", suite="trixie")
    assert apt_inputs("a", suite="trixie") != apt_inputs("a", suite="bookworm")
    assert apt_inputs("a", base="x=1", suite="trixie") != apt_inputs("a", base="x=2", suite="trixie")
    assert models_inputs("a = 1  # x\n") == models_inputs("a = 1\n")
    assert models_inputs("a = 1") != models_inputs("a = 2")


def test_header_decides_whether_a_lock_is_fresh():
    one, two = FileHash.of(b"1"), FileHash.of(b"2")
    lock = render_header(one) + "a==1\n"
    assert find_inputs(lock) == one
    assert check_fresh("x.txt", lock, one) is None
    assert "older than its input" in check_fresh("x.txt", lock, two).what
    assert "missing" in check_fresh("x.txt", None, one).what
    assert "nox -s lock" in check_fresh("x.txt", "a==1\n", one).hint


def test_hash_sign_inside_a_word_starts_no_comment():
    assert normalise_text("x @ https://h/f#sha256=1  # why\n") == "x @ https://h/f#sha256=1"
