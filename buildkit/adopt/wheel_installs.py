"""Installations of Python packages: they become locks, or lines of an input. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from buildkit.adopt.commands import Command, format_command
from buildkit.adopt.conda import CondaEnvironment, advise_conda, find_python, parse_environment
from buildkit.adopt.installs import (
    LockInstall,
    PipInstall,
    name_address,
    parse_options,
    read_export,
    read_lock_install,
    read_pip,
)
from buildkit.adopt.reading import ContainerfileReading
from buildkit.declare.instructions import Instruction
from buildkit.declare.toml import parse_toml

_GIT_PACKAGE = "write it as `NAME @ git+https://…@COMMIT` into requirements/{}.in (docs/locks.md), or keep it here"
_NAMED = "written into the input as `{}`: check the name"
_CONDA = ("conda", "mamba", "micromamba")


def read_wheels(reading: ContainerfileReading, instruction: Instruction, words: Command) -> bool:
    """Add what a command installs of Python packages, or leave it over; return whether it is such a command."""
    exported = read_export(words)
    if exported is not None:
        reading.files.locks[reading.files.absolute(exported[1])] = exported[0]
        return True
    locked = read_lock_install(words)
    if locked is not None:
        _add_lock(reading, locked)
        return True
    pip = read_pip(words)
    if pip is not None:
        _add_pip(reading, instruction, pip)
    return pip is not None


def _add_lock(reading: ContainerfileReading, locked: LockInstall) -> None:
    wheels = reading.image.wheels
    found = reading.files.find_source(reading.files.absolute(locked.lock)) or reading.in_context(locked.lock)
    about = _read_project(reading, posixpath.dirname(found))
    extras = _written_out(locked.extras, about.get("project", {}).get("optional-dependencies", {}))
    groups = _written_out(locked.groups, about.get("dependency-groups", {}))
    reading.image.wheels = replace(
        wheels,
        locks=tuple(dict.fromkeys((*wheels.locks, found))),
        extras=tuple(dict.fromkeys((*wheels.extras, *extras))),
        groups=tuple(dict.fromkeys((*wheels.groups, *groups))),
        member=wheels.member or locked.package,
        package=wheels.package or locked.project,
    )


def _add_pip(reading: ContainerfileReading, instruction: Instruction, pip: PipInstall) -> None:
    """Add what pip installs to the input of the image, or to what is left over if it is not in the repository."""
    lines: list[str] = []
    for kind, files in (("-r", pip.files), ("-c", pip.constraints)):
        for file in files:
            _add_list(reading, instruction, kind, file, lines)
    unnamed = {line: name_address(line) for line in pip.lines if "://" in line and " @ " not in line}
    lines += [unnamed.get(line, line) for line in pip.lines if unnamed.get(line, line)]
    for path in pip.paths:
        _add_path(reading, instruction, path, lines)
    for line, named in unnamed.items():
        advice = _NAMED.format(named) if named else _GIT_PACKAGE.format(reading.tree.stage)
        reading.leave(instruction, advice, f"pip install {line}")
    if pip.flags and lines:
        flags = " ".join(pip.flags)
        reading.leave(instruction, f"{flags} has no effect here (docs/locks.md)", f"pip install {flags} …")
    settings = (line for line in pip.settings if not line.startswith("--find-links /"))
    wheels = reading.image.wheels
    reading.image.wheels = replace(
        wheels,
        settings=tuple(dict.fromkeys((*wheels.settings, *settings))) if lines else wheels.settings,
        plain=wheels.plain or bool(lines and not any("index-url" in line for line in pip.settings)),
        lines=tuple(dict.fromkeys((*wheels.lines, *lines))),
    )


def _add_list(reading: ContainerfileReading, instruction: Instruction, kind: str, file: str, lines: list[str]) -> None:
    place = reading.files.absolute(file)
    if kind == "-r" and place in reading.files.locks:
        _add_lock(reading, reading.files.locks[place])
        return
    found = reading.files.find_source(place)
    if found is None and reading.tree.exists(reading.in_context(file)):  # mounted, or from a stage that was not read
        found = reading.in_context(file)
    if found is None:
        reading.leave(instruction, f"{file} is not in the repository: name the list that it comes from")
    else:
        lines.append(f"{kind} {found}")


def _add_path(reading: ContainerfileReading, instruction: Instruction, path: str, lines: list[str]) -> None:
    bare, extras = re.split(r"\[", path)[0], "".join(re.findall(r"\[.*\]", path))
    place = reading.files.absolute(bare)
    found = reading.files.find_source(place)
    if found is None and (bare in (".", "./") or place in map(posixpath.dirname, reading.files.packages)):
        files = reading.files.packages
        found = next((posixpath.dirname(files[at]) or "." for at in files if posixpath.dirname(at) == place), None)
    if found is None and not bare.startswith("/") and reading.tree.exists(reading.in_context(bare)):
        found = reading.in_context(bare)
    if found is None:
        if not re.fullmatch(r".*/(?:wheels?|wheelhouse|dist)(?:/.*)?|.*\*\.whl", bare):
            reading.leave(instruction, f"{path} is not in the repository: {_GIT_PACKAGE.format(reading.tree.stage)}")
        return
    wheels = reading.image.wheels
    beside = posixpath.dirname(wheels.locks[0]) or "." if wheels.locks else None
    if found == beside:  # the project of the lock
        reading.image.wheels = replace(wheels, package=True)
        return
    reading.image.installed[place] = None
    lines.append(f"{found}{extras}" if found.startswith(".") else f"./{found}{extras}")


def read_conda(reading: ContainerfileReading, instruction: Instruction, words: Command) -> bool:
    """Add what conda installs, as far as pip has it; return whether it is such a command."""
    if words[0].rpartition("/")[2] not in _CONDA:
        return False
    rest = [word for word in words[1:] if word != "env"]
    options = parse_options(
        rest[1:], ("-f", "--file", "-n", "--name", "-p", "--prefix", "-c", "--channel", "--solver", "--platform")
    )
    if rest[:1] not in (["create"], ["update"], ["install"]):
        return False
    for file in options.all("-f", "--file"):
        found = reading.files.find_source(reading.files.absolute(file)) or reading.in_context(file)
        if not reading.tree.exists(found):
            reading.leave(instruction, f"{file} is not in the repository")
            continue
        _add_environment(reading, found, parse_environment(reading.tree.read(found), found, reading.tree.stage))
    told = (advise_conda(spec, reading.tree.stage) for spec in options.words if not find_python(spec))
    if advice := list(filter(None, told)):
        reading.leave(instruction, "\n".join(dict.fromkeys(advice)), format_command(words))
    return True


def _add_environment(reading: ContainerfileReading, file: str, environment: CondaEnvironment) -> None:
    folder = posixpath.dirname(file)
    lines = [f"-r {posixpath.normpath(posixpath.join(folder, name))}" for name in environment.files]
    wheels = reading.image.wheels
    reading.image.wheels = replace(wheels, lines=tuple(dict.fromkeys((*wheels.lines, *lines, *environment.lines))))
    for name, value in environment.variables:
        reading.image.env.setdefault(name, value)
    for found in environment.leftovers:
        reading.leave_at(found.file, found.line, found.text, found.advice)


def _read_project(reading: ContainerfileReading, folder: str) -> dict[str, Any]:
    path = posixpath.join(folder, "pyproject.toml")
    return parse_toml(reading.tree.read(path), path)


def _written_out(names: Iterable[str], known: Mapping[str, Any]) -> list[str]:
    """Return extras or groups by name: ``*`` is all of them."""
    return [name for word in names for name in (known if word == "*" else (word,))]
