"""Commands of a RUN that leave nothing that an image of layers needs: caches, settings, tools of the build. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from buildkit.adopt.installs import after_pip

_CACHES = (
    "/var/lib/apt/lists", "/var/cache", "/var/log", "/var/tmp", "/tmp", "/root/.cache", "~/.cache",  # noqa: S108
)  # fmt: skip
_STARTS = (
    ("poetry", "config"), ("poetry", "self"), ("poetry", "cache"), ("poetry", "check"), ("poetry", "env"),
    ("uv", "venv"), ("uv", "python"), ("uv", "cache"), ("uv", "tool"), ("uv", "self"), ("apt-mark",), ("apt-cache",),
    ("conda", "clean"), ("conda", "config"), ("conda", "init"), ("conda", "update"), ("conda", "info"),
    ("mamba", "clean"), ("micromamba", "clean"), ("conda", "activate"), ("git", "lfs", "install"), ("git", "config"),
    ("echo",), ("virtualenv",), ("dpkg-reconfigure",), ("ldconfig",), ("which",), ("ls",), ("pwd",), ("cat",),
    ("printenv",), ("source",), (".",), ("export",), ("unset",), ("exit",), ("test",), ("touch",),
)  # fmt: skip
_SUMS = ("sha256sum", "sha512sum", "sha1sum", "md5sum")  # the lock of what was fetched has its sum
_VERSION = re.compile(r"-V|-v|--version|version")
_PYTHON = re.compile(r"(?:\S*/)?python(?:3(?:\.\d+)?)?")
_INSTALLERS = re.compile(r"https://(?:astral\.sh/uv|install\.python-poetry\.org|bootstrap\.pypa\.io/get-pip)\S*")
_PYTHON_LINK = re.compile(r"(?:/usr)?(?:/local)?/bin/(?:python3?|pip3?)")


def is_idle(command: Sequence[str]) -> bool:
    """Return whether a command changes nothing that an image of layers needs."""
    if not command:
        return True
    if command[0] == "|":  # curl … | sh, of an installer that has no use here
        is_installer = any(map(_INSTALLERS.fullmatch, command)) and command[-1] in (
            "sh",
            "bash",
            "python",
            "python3",
            "-",
        )
        return is_installer or ({*_SUMS} & {*command} != set() and not {"-c", "--check"}.isdisjoint(command))
    if len(command) == 2 and _VERSION.fullmatch(command[1]):
        return True
    if command[0] in ("rm", "rmdir"):
        return all(path.startswith(_CACHES) for path in command[1:] if not path.startswith("-"))
    pip = after_pip(command)
    if pip is not None:
        return pip[:1] in (["cache"], ["config"], ["--version"], ["check"], ["list"], ["freeze"], ["uninstall"])
    if _PYTHON.fullmatch(command[0]):
        return command[1:3] in (["-m", "venv"], ("-m", "venv")) or tuple(command[1:3]) == ("-Im", "site")
    return _links_python(command) or any(tuple(command[: len(start)]) == start for start in _STARTS)


def _links_python(command: Sequence[str]) -> bool:
    """Return whether a command only gives Python its short name, which the virtual environment has."""
    if command[0] == "update-alternatives":
        return any(map(_PYTHON_LINK.fullmatch, command))
    return command[0] == "ln" and _PYTHON_LINK.fullmatch(command[-1]) is not None
