"""What the service's command runs: a Python program that can be run in a forked process, or something else."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_INIT = frozenset({"tini", "dumb-init", "catatonit"})
_PYTHON = re.compile(r"python(3(\.\d+)?)?$")
_WITH_VALUE = frozenset({"-X", "-W", "--check-hash-based-pycs"})
_SHELL = frozenset("|&;<>()$`\\\"'*?[#~=%\n")
_OWN_RELOAD = {  # options by which servers start further processes or reload by themselves, and whether a value follows
    "uvicorn": {"--reload": False, "--workers": True, "--reload-dir": True, "--reload-include": True}
    | {"--reload-exclude": True, "--reload-delay": True},
    "hypercorn": {"--reload": False, "--workers": True, "-w": True},
    "gunicorn": {"--reload": False, "--preload": False, "--workers": True, "-w": True, "--daemon": False, "-D": False},
    "fastapi": {"--reload": False, "--workers": True},
    "flask": {"--reload": False, "--debug": False},
}
_INSTEAD = {  # hypercorn starts another interpreter for each worker unless there are none
    "fastapi": ("--no-reload",),
    "flask": ("--no-reload",),
    "gunicorn": ("--workers", "1"),
    "hypercorn": ("--workers", "0"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A Python program: a script's path or a module's name, with its arguments and the interpreter's options."""

    python: str
    options: tuple[str, ...] = ()
    script: str = ""
    module: str = ""
    arguments: tuple[str, ...] = ()


def parse_program(
    command: Sequence[str], find: Callable[[str], str | None] = shutil.which, python: str = "python3"
) -> Program | None:
    """Return the Python program that a command runs, None where it runs something else.

    ``find`` returns the path of a program by its name; ``python`` runs scripts that begin with an interpreter's name.
    """
    words = _unwrap(list(command))
    if not words:
        return None
    if _PYTHON.match(Path(words[0]).name):
        return _parse_interpreter(words[0], words[1:])
    path = words[0] if "/" in words[0] else find(words[0])
    if path is None or not _is_python_script(path):
        return None
    return Program(python=python, script=path, arguments=_without_reload(Path(path).name, words[1:]))


def _unwrap(words: list[str]) -> list[str]:
    """Leave out what only starts the program: small init programs, and a shell that does nothing else."""
    if words and Path(words[0]).name in _INIT:
        words = words[1:]
        while words and words[0].startswith("-"):
            last = words[0] == "--"
            words = words[1:]
            if last:
                break
    if len(words) == 3 and Path(words[0]).name in {"sh", "bash", "dash"} and words[1] == "-c":
        if _SHELL & set(words[2]):
            return words
        words = shlex.split(words[2])
        return words[1:] if words[:1] == ["exec"] else words
    return words


def _parse_interpreter(python: str, words: list[str]) -> Program | None:
    options: list[str] = []
    while words:
        word = words.pop(0)
        if word == "-m" and words:
            return Program(
                python=python,
                options=tuple(options),
                module=words[0],
                arguments=_without_reload(words[0], words[1:]),
            )
        if word in {"-c", "-"}:
            return None
        if not word.startswith("-"):
            return Program(
                python=python, options=tuple(options), script=word, arguments=_without_reload(Path(word).name, words)
            )
        options.append(word)
        if word in _WITH_VALUE and words:
            options.append(words.pop(0))
    return None


def _is_python_script(path: str) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as the kernel reads it
            first = file.readline(256)
            second = file.readline(256)
    except OSError:
        return False
    return first.startswith(b"#!") and (b"python" in first or (b"/bin/sh" in first and b"python" in second))


def _without_reload(name: str, words: Sequence[str]) -> tuple[str, ...]:
    known = _OWN_RELOAD.get(name.removesuffix(".py"), {})
    left, skip = [], False
    for word in words:
        option, _, value = word.partition("=")
        if skip:
            skip = False
        elif option in known:
            skip = known[option] and not value
        else:
            left.append(word)
    return (*left, *_INSTEAD.get(name, ()))


def find_executable(word: str) -> str:
    """Return the path of a program, as a shell would find it; the word itself where there is none."""
    return word if os.sep in word else shutil.which(word) or word
