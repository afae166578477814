"""Debian packages: lists (``requirements/NAME.apt``, one package per line) and their locks (``NAME.apt.lock``)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem
from buildkit.locks.freshness import find_inputs, render_header
from buildkit.locks.pins import AptPin

# Debian policy 5.6.1 (names) and 5.6.12 (versions)
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+:~-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class AptLock:
    """An apt lock: the hash of its inputs, and the packages sorted by name."""

    inputs: FileHash
    pins: tuple[AptPin, ...]


def apt_lock_path(file: str) -> str:
    """Return ``requirements/base.apt.lock`` for ``requirements/base.apt``."""
    return f"{file}.lock"


def parse_apt_list(text: str, file: str) -> tuple[str, ...]:
    """Return package names, sorted, each once. Raises DefinitionError with every line that is not a name."""
    lines, problems = _lines(text), list[Problem]()
    for number, line in lines:
        if not _NAME.fullmatch(line):
            hint = "one package per line; versions come from the lock" if "=" in line or " " in line else ""
            name, _, arch = line.partition(":")
            if arch and _NAME.fullmatch(name):
                hint = f"write {name}: a root has packages of one architecture"
            problems.append(Problem(file=f"{file}:{number}", what=f"`{line[:80]}` is not a Debian package", hint=hint))
    if problems:
        raise DefinitionError.of(problems)
    return tuple(sorted({line for _, line in lines}))


def parse_apt_lock(text: str, file: str) -> AptLock:
    """Parse an apt lock. Raises DefinitionError with every problem found."""
    problems: list[Problem] = []
    inputs = find_inputs(text)
    if inputs is None:
        problems.append(Problem(file=file, what="does not say what it was made from", hint="run: nox -s lock"))
    pins: dict[str, AptPin] = {}
    for number, line in _lines(text):
        name, _, version = line.partition("=")
        if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
            what = f"`{line[:80]}` is not name=version"
        elif name in pins:
            what = f"{name} is listed twice"
        else:
            pins[name] = AptPin(name=name, version=version)
            continue
        problems.append(Problem(file=f"{file}:{number}", what=what, hint="run: nox -s lock"))
    if problems or inputs is None:
        raise DefinitionError.of(problems)
    return AptLock(inputs=inputs, pins=sort_apt_pins(tuple(pins.values())))


def render_apt_lock(lock: AptLock) -> str:
    """Render ``lock``; equal locks give equal bytes."""
    lines = "".join(f"{pin.name}={pin.version}\n" for pin in sort_apt_pins(lock.pins))
    return f"{render_header(lock.inputs)}# Made by `nox -s lock`: Debian packages at their exact versions.\n{lines}"


def sort_apt_pins(pins: tuple[AptPin, ...]) -> tuple[AptPin, ...]:
    """Return the pins sorted by name."""
    return tuple(sorted(pins, key=lambda pin: pin.name))


def _lines(text: str) -> list[tuple[int, str]]:
    bare = ((number, line.partition("#")[0].strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in bare if line]
