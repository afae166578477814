"""The locks of the project's own environment: fresh against pyproject.toml, in agreement, and hashed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from dependency_groups import resolve
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "ci/locks").glob("*.txt"))
PYTHONS = ("3.11", "3.12", "3.13")
STALE = "it is stale: run nox -s lock-environment"


def environment(python: str) -> dict[str, str]:
    return {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "os_name": "posix",
        "extra": "",
    }


def read_lines(path: Path) -> list[str]:
    lines = path.read_text("utf-8").replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def find_pins(path: Path, python: str) -> dict[str, str]:
    """Return the version of each name that a lock installs for a Python on Linux."""
    pins: dict[str, str] = {}
    for line in read_lines(path):
        requirement = Requirement(line.partition(" --hash=")[0])
        if requirement.marker is None or requirement.marker.evaluate(environment(python)):
            name = canonicalize_name(requirement.name)
            assert name not in pins, f"{path.name} pins {name} twice for Python {python}"
            (pin,) = requirement.specifier
            assert pin.operator == "=="
            pins[name] = pin.version
    return pins


def find_requirements() -> Iterator[tuple[str, Requirement]]:
    """Yield each requirement with the lock that must satisfy it."""
    value = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    project = value["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    texts = {
        "bootstrap": (*value["build-system"]["requires"], *project["dependencies"], *extras),
        **{group: resolve(value["dependency-groups"], group) for group in ("lint", "tests")},
        "application": [
            line.partition("#")[0].strip()
            for name in ("api", "clients", "ml")
            for line in read_lines(ROOT / f"requirements/{name}.in")
        ],
    }
    for lock, lines in texts.items():
        for line in lines:
            yield lock, Requirement(line)


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_is_satisfied_by_a_pin(python: str) -> None:
    pins = {path.stem: find_pins(path, python) for path in LOCKS}
    requirements = list(find_requirements())
    assert {lock for lock, _ in requirements} == pins.keys()
    for lock, requirement in requirements:
        version = pins[lock].get(canonicalize_name(requirement.name))
        assert version, f"ci/locks/{lock}.txt lacks {requirement}: {STALE}"
        assert requirement.specifier.contains(version), f"ci/locks/{lock}.txt: {version} is not {requirement}: {STALE}"


@pytest.mark.parametrize("python", PYTHONS)
def test_locks_agree_because_they_are_installed_into_one_environment(python: str) -> None:
    versions: dict[str, set[str]] = {}
    for path in LOCKS:
        for name, version in find_pins(path, python).items():
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_pin_has_hashes_and_nothing_else(path: Path) -> None:
    lines = read_lines(path)
    assert len(lines) > 10
    for line in lines:
        assert re.fullmatch(
            r"[\w.-]+(\[[\w,-]+\])?==[^ ;]+( ; [^-]+(-[^-]+)*?)?( +--hash=sha256:[0-9a-f]{64})+ *", line
        ), line


def test_sessions_install_only_what_is_locked() -> None:
    """No session resolves into the environment by itself: a name without a pin would be fetched unhashed.

    PyTorch and TensorFlow are installed into a folder beside it, on request, from the index of the caller's choice.
    """
    text = (ROOT / "noxfile.py").read_text("utf-8")
    install, wheel, frameworks = re.findall(r'"pip", "install".*\n.*', text)
    assert "--require-hashes" in install
    assert '"--no-deps", "--no-index", wheel)' in wheel
    assert '"--target", str(folder))' in frameworks
    installed = set(re.findall(r'install\(session, "(\w+)"[,)]', text))
    assert installed == {path.stem for path in LOCKS}
