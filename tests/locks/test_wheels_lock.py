"""Wheels locks."""

import pytest

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError
from buildkit.locks.pins import Artifact
from buildkit.locks.wheels_lock import make_wheels_lock, parse_wheels_lock, render_wheels_lock, wheels_lock_path

TARGET = Target(python="3.13.5", glibc="2.41", arch="x86_64")
HASH = FileHash.of(b"wheel")
LOCK = make_wheels_lock(
    FileHash.of(b"inputs"),
    TARGET,
    (
        Artifact(name="numpy", version="2.5.5", file="numpy-2.5.5-cp313-x.whl", sha256=HASH, size=10),
        Artifact(name="text-kit", version="1.2", path="./libs/textkit"),
        Artifact(name="antlr", version="4", file="antlr-4.tar.gz", sha256=HASH, size=3, unseen=True),
        Artifact(
            name="kit", version="", file="kit-1.tar", sha256=HASH, size=3, place=f"git+https://h.example/kit@{'a' * 40}"
        ),
    ),
)


def test_rendered_text_parses_to_the_same_value():
    text = render_wheels_lock(LOCK)
    assert parse_wheels_lock(text, "x") == LOCK
    assert render_wheels_lock(parse_wheels_lock(text, "x")) == text
    assert text.startswith(f"# buildkit inputs {LOCK.inputs}\n")


def test_wheels_lock_path_derives_from_the_requirements_lock():
    assert wheels_lock_path("requirements/api.txt") == "requirements/api.wheels.toml"
    assert wheels_lock_path("requirements/api.in", "aarch64") == "requirements/api.aarch64.wheels.toml"
    assert wheels_lock_path("uv.extra-gpu.wheels.toml") == "uv.extra-gpu.wheels.toml"
    assert wheels_lock_path("uv.extra-gpu.wheels.toml", "aarch64") == "uv.extra-gpu.aarch64.wheels.toml"


def test_every_problem_is_reported():
    good = render_wheels_lock(LOCK)
    broken = (
        good.replace('glibc = "2.41"\n', "")
        .replace("size = 10", "size = -1")
        .replace("antlr-4.tar.gz", "../antlr-4.tar.gz")
        .replace('path = "./libs/textkit"', 'paht = "x"')
    )
    with pytest.raises(DefinitionError) as caught:
        parse_wheels_lock(broken, "requirements/api.wheels.toml")
    message = str(caught.value)
    for word in ("target.glibc", "artifact numpy", "size", "artifact text-kit", "unknown key `paht`", "artifact antlr"):
        assert word in message


def test_lock_with_marks_of_a_merge_names_the_command_that_makes_it_anew():
    with pytest.raises(DefinitionError, match="is not TOML") as caught:
        parse_wheels_lock(f"<<<<<<< HEAD\n{render_wheels_lock(LOCK)}", "x")
    assert caught.value.hint == "run: nox -s lock"


def test_a_lock_without_header_is_refused():
    with pytest.raises(DefinitionError, match="made from"):
        parse_wheels_lock(render_wheels_lock(LOCK).partition("\n")[2], "x")


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("[target]", "target = 3\n[other]", "target"),
        ("[[artifact]]", "[artifact]", "artifact"),
        ("size = 10", f"size = {'0x' + 'f' * 5000}", "artifact numpy"),
    ],
)
def test_values_of_wrong_type_are_refused(old, new, key):
    text = render_wheels_lock(LOCK)
    broken = text.replace(old, new, 1)
    if key == "artifact":
        broken = broken.partition("[artifact]")[0] + "[artifact]\nx = 1\n"
    with pytest.raises(DefinitionError, match=f"x: `{key}`"):
        parse_wheels_lock(broken, "x")


@pytest.mark.parametrize(
    "place",
    [
        "git+file:///srv/kit@" + "a" * 40,
        "git+https://h.example/kit@main",
        "git+https://[::1/kit@" + "a" * 40,
        "git+https://h.example/kit@" + "a" * 40 + "#egg=kit",
        "git+https://h.example/kit@" + "a" * 40 + "#subdirectory=../..",
    ],
)
def test_place_that_is_no_commit_of_a_repository_is_refused(place):
    """Whoever reads an artifact relies on it."""
    broken = render_wheels_lock(LOCK).replace(f"git+https://h.example/kit@{'a' * 40}", place)
    with pytest.raises(DefinitionError, match="x: `artifact kit`"):
        parse_wheels_lock(broken, "x")
    text = render_wheels_lock(LOCK).replace("kit-1.tar", "kit-1-py3-none-any.whl")
    with pytest.raises(DefinitionError, match="its file no wheel"):
        parse_wheels_lock(text, "x")
