"""Debian packages: lists (``requirements/NAME.apt``, one package per line) and their locks (``NAME.apt.lock``)."""

from __future__ import annotations

import re

from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem
from buildkit.lazy_dataclass import dataclass
from buildkit.locks.freshness import read_inputs, render_header
from buildkit.locks.pins import AptPin

# Debian policy 5.6.1 (names) and 5.6.12 (versions)
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+:~-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class AptLock:
    """An apt lock: the hash of its inputs, and the packages sorted by name."""

    inputs: FileHash
    pins: tuple[AptPin, ...]


def apt_lock_path(file: str, arch: str = "") -> str:
    """Return ``requirements/base.apt.lock`` for ``requirements/base.apt``.

    ``arch`` is `Target.lock_arch`; with it, the name is ``requirements/base.aarch64.apt.lock``.
    """
    if not arch:
        return f"{file}.lock"
    return f"{file.removesuffix('.apt')}.{arch}.apt.lock" if file.endswith(".apt") else f"{file}.{arch}.lock"


def parse_apt_list(text: str, file: str) -> tuple[str, ...]:
    """Return packages, sorted, each once: names, or ``name=version`` where the list asks for a version.

    Raises DefinitionError with every line that is neither, and for two versions of one package.
    """
    problems = list[Problem]()
    asked: dict[str, str] = {}
    for number, line in _lines(text):
        name, has_version, version = (part.strip() for part in line.partition("="))
        if not _NAME.fullmatch(name) or (has_version and not _VERSION.fullmatch(version)):
            problems.append(_explain_line(f"{file}:{number}", line))
        elif has_version and asked.get(name, version) not in ("", version):
            problems.append(Problem(file=f"{file}:{number}", what=f"{name} is asked for in two versions"))
        else:
            asked[name] = version or asked.get(name, "")
    if problems:
        raise DefinitionError.of(problems)
    return tuple(sorted(f"{name}={version}" if version else name for name, version in asked.items()))


def _explain_line(place: str, line: str) -> Problem:
    name, _, arch = line.partition("=")[0].partition(":")
    if arch and _NAME.fullmatch(name) and _NAME.fullmatch(arch):
        hint = f"write {name}: `arch` in [tool.buildkit] says of which"
        return Problem(file=place, what=f"`{line[:80]}` names an architecture, and a root has one for all", hint=hint)
    hint = "one package per line" if " " in line else "a name, or name=version" if "=" in line else ""
    return Problem(file=place, what=f"`{line[:80]}` is not a Debian package", hint=hint)


def parse_apt_lock(text: str, file: str) -> AptLock:
    """Parse an apt lock. Raises DefinitionError with every problem found."""
    problems: list[Problem] = []
    inputs = read_inputs(text, file, problems)
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
