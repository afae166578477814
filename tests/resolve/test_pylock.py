"""pylock.toml (PEP 751), as uv writes it and with what other tools may write, chosen as `packaging` chooses."""

import pytest
from packaging.pylock import Pylock
from packaging.tags import Tag

from buildkit.declare.lock_choice import LockChoice
from buildkit.declare.target import Target
from buildkit.declare.toml import parse_toml
from buildkit.errors import DefinitionError
from buildkit.locks.pylock import PylockReader
from buildkit.tools.finder import make_target_python
from buildkit.tools.listed_files import find_listed

TARGETS = [
    Target(python=python, glibc="2.36", arch=arch) for python in ("3.13.5", "3.11.2") for arch in ("x86_64", "aarch64")
]
A, B, C = "a" * 64, "b" * 64, "c" * 64
LOCK = f"""
lock-version = "1.0"
created-by = "hand"
requires-python = ">=3.11"
extras = ["gpu"]
dependency-groups = ["main", "dev"]
default-groups = ["main"]
[[packages]]
name = "alpha"
version = "1.0"
marker = "'main' in dependency_groups"
wheels = [
    {{ url = "https://x.test/alpha-1.0-cp311-abi3-manylinux_2_17_x86_64.whl", hashes = {{ sha256 = "{A}" }} }},
    {{ url = "https://x.test/alpha-1.0-cp313-cp313-manylinux_2_28_x86_64.whl", hashes = {{ sha256 = "{C}" }} }},
    {{ url = "https://x.test/alpha-1.0-cp313-cp313-manylinux_2_39_x86_64.whl", hashes = {{ sha256 = "{C}" }} }},
]
[packages.sdist]
path = "sdists/alpha-1.0.tar.gz"
size = 5
hashes = {{ sha256 = "{C}" }}
[[packages]]
name = "beta"
version = "2.9.1+cpu"
marker = "'gpu' in extras and python_version >= '3.12'"
wheels = [{{ path = "wheels/beta-2.9.1+cpu-py3-none-any.whl", size = 3, hashes = {{ sha256 = "{A}" }} }}]
[[packages]]
name = "gamma"
version = "3"
marker = "'dev' in dependency_groups"
[packages.archive]
url = "https://x.test/gamma-3.zip"
hashes = {{ sha256 = "{B}" }}
[[packages]]
name = "own"
directory = {{ path = "../libs/own", editable = true }}
"""


def read(text=LOCK, target=TARGETS[0], **choice):
    chosen = LockChoice(file="locks/pylock.toml", **choice)
    return PylockReader(choice=chosen, lines=text, describe_local=lambda _path: ("own", "0.7")).read(text, target)


def problem(text, **choice):
    with pytest.raises(DefinitionError) as caught:
        read(text, **choice)
    return caught.value.problems[0]


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize(
    "choice", [{}, {"extras": ("gpu",)}, {"groups": ("dev",)}, {"extras": ("gpu",), "groups": ("dev",)}]
)
def test_the_same_files_are_chosen_as_by_packaging(target, choice):
    pins = read(target=target, project=False, **choice)
    ours = {(pin.name, found.place) for pin in pins if (found := find_listed(pin, target))}
    tags = [Tag(*str(tag).split("-")) for tag in make_target_python(target).supported_tags()]
    lock = Pylock.from_dict(parse_toml(LOCK.partition('[[packages]]\nname = "own"')[0], "x"))
    groups = ["main", *choice.get("groups", ())]
    selected = lock.select(
        environment=target.markers, tags=tags, extras=choice.get("extras", ()), dependency_groups=groups
    )
    theirs = {(package.name, file.url or f"locks/{file.path}") for package, file in selected}
    assert ours == theirs


def test_local_packages_and_files_are_relative_to_the_lock():
    (own,) = (pin for pin in read() if pin.path)
    assert (own.name, own.path, own.version) == ("own", "./libs/own", "0.7")
    beta = next(pin for pin in read(extras=("gpu",)) if pin.name == "beta")
    assert [(file.place, file.size) for file in beta.files] == [("locks/wheels/beta-2.9.1+cpu-py3-none-any.whl", 3)]
    assert LOCK.splitlines()[beta.line] == 'name = "beta"'


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("../libs/own", "../../own", "own is in ../own, outside of the repository"),
        ('directory = { path = "../libs/own", editable = true }',
         'vcs = { type = "git", url = "https://x.test/x", commit-id = "1" }',
         "own names no whole commit of its repository"),
        (f'hashes = {{ sha256 = "{B}" }}', 'hashes = { md5 = "1" }',
         "gamma has no file with a SHA-256"),
        ('requires-python = ">=3.11"', 'requires-python = "<3.13"', "needs Python <3.13, and the images have 3.13.5"),
        ('lock-version = "1.0"', 'lock-version = "9"', "is not a pylock.toml"),
        ('name = "beta"', "name = 3", "is not a pylock.toml"),
    ],
)  # fmt: skip
def test_what_no_image_can_have_is_named(old, new, what):
    assert what in problem(LOCK.replace(old, new)).what


def test_extras_and_groups_that_the_lock_lacks_are_named():
    assert problem(LOCK, extras=("nope",)).what == "has no extra `nope`"
    assert problem(LOCK, groups=("nope",)).hint == "it has: main, dev"


def test_the_highest_build_of_a_wheel_is_taken_as_by_pip_and_uv():
    """`packaging` does not look at build numbers."""
    again = LOCK.replace("alpha-1.0-cp311", "alpha-1.0-10-cp311").replace(
        "alpha-1.0-cp313-cp313", "alpha-1.0-9-cp311-abi3"
    )
    pin = next(pin for pin in read(again, TARGETS[2]) if pin.name == "alpha")
    found = find_listed(pin, TARGETS[2])
    assert found is not None
    assert found.name == "alpha-1.0-9-cp311-abi3-manylinux_2_28_x86_64.whl"  # a better tag goes before a build
    pin = next(pin for pin in read(again.replace("2_28", "2_17"), TARGETS[2]) if pin.name == "alpha")
    found = find_listed(pin, TARGETS[2])
    assert found is not None
    assert found.name == "alpha-1.0-10-cp311-abi3-manylinux_2_17_x86_64.whl"
