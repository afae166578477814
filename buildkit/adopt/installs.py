"""What commands of a RUN install: Debian packages, Python packages, accounts. Pure.

Each reader returns None for a command that is not its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_APT_VALUED = ("-t", "--target-release", "-o", "--option", "-c", "--config-file")
_APT_IDLE = ("update", "upgrade", "dist-upgrade", "full-upgrade", "clean", "autoclean", "autoremove", "purge", "remove")
_PIP_VALUED = (
    "--timeout", "--retries", "--cache-dir", "--progress-bar", "--python", "--prefix", "--target", "-t", "--root",
    "--link-mode", "--trusted-host", "--proxy", "--cert",
)  # fmt: skip
_PIP_INPUT = ("--index-url", "-i", "--extra-index-url", "--find-links", "-f", "--no-binary", "--only-binary")
_CACHES = ("/var/lib/apt/lists", "/var/cache", "/tmp", "/root/.cache", "~/.cache")  # noqa: S108 - of an image
_PIP_TOOLS = ("pip", "setuptools", "wheel", "uv", "poetry", "pipenv", "pip-tools", "virtualenv")
_BUILD_TOOLS = re.compile(
    r"(?:build-essential|gcc|g\+\+|cpp|clang|make|cmake|ninja-build|meson|cargo|rustc|pkg-config|pkgconf|swig|autoconf|"
    r"automake|libtool|patchelf|python3(?:\.\d+)?-(?:dev|venv|pip)|.+-dev)(?:-\d+)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipInstall:
    """An installation by pip or uv: requirement files, constraint files, lines for an input, local paths."""

    files: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockInstall:
    """An installation from a lock: ``uv sync`` or ``poetry install``, with extras, groups, and the project itself."""

    lock: str
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    project: bool = True


@dataclass(slots=True)
class _Options:
    """The options of a command line: values by name, and the words that are no option."""

    values: dict[str, list[str]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def all(self, *names: str) -> tuple[str, ...]:
        return tuple(value for name in names for value in self.values.get(name, ()))


def read_apt(command: Sequence[str]) -> tuple[str, ...] | None:
    """Return the packages that an apt command installs: none for ``update`` and its kind."""
    if not command or command[0] not in ("apt-get", "apt", "aptitude"):
        return None
    options = _parse(command[1:], _APT_VALUED)
    verb, *packages = options.words or [""]
    if verb == "install":
        return tuple(packages)
    return () if verb in _APT_IDLE else None


def is_build_tool(package: str) -> bool:
    """Return whether a Debian package only serves to compile: it belongs into the builder."""
    return _BUILD_TOOLS.fullmatch(package.partition("=")[0].partition(":")[0]) is not None


def read_pip(command: Sequence[str]) -> PipInstall | None:
    """Return what ``pip install`` or ``uv pip install`` installs; tools such as pip itself are left out."""
    rest = _after_pip(command)
    if rest is None or rest[:1] != ["install"]:
        return None
    options = _parse(
        rest[1:], (*_PIP_VALUED, *_PIP_INPUT, "-r", "--requirement", "-c", "--constraint", "-e", "--editable")
    )
    local = [word for word in options.words if _is_path(word)]
    named = [word for word in options.words if not _is_path(word)]
    wanted = [word for word in named if re.split(r"[\[<>=!~ @;]", word, maxsplit=1)[0].lower() not in _PIP_TOOLS]
    settings = [f"{_long(name)} {value}" for name in _PIP_INPUT for value in options.values.get(name, ())]
    settings += ["--pre"] if "--pre" in options.values else []
    return PipInstall(
        files=options.all("-r", "--requirement"),
        constraints=options.all("-c", "--constraint"),
        lines=(*settings, *wanted) if wanted or options.all("-r", "--requirement") or local else (),
        paths=(*options.all("-e", "--editable"), *local),
    )


def read_lock_install(command: Sequence[str]) -> LockInstall | None:
    """Return what ``uv sync`` or ``poetry install`` installs."""
    words = list(command)
    if words[:2] == ["uv", "sync"]:
        options = _parse(
            words[2:],
            ("--extra", "--group", "--only-group", "--no-group", "--package", "--python", "-p", "--link-mode"),
        )
        groups = options.all("--group", "--only-group")
        if "--all-groups" in options.values:
            groups = ("*",)
        extras = ("*",) if "--all-extras" in options.values else options.all("--extra")
        return LockInstall(
            lock="uv.lock", extras=extras, groups=groups, project="--no-install-project" not in options.values
        )
    if words[:2] == ["poetry", "install"]:
        options = _parse(words[2:], ("--with", "--without", "--only", "-E", "--extras", "--directory", "-C"))
        groups = tuple(name for value in options.all("--with") for name in value.split(","))
        extras = tuple(name for value in options.all("-E", "--extras") for name in value.split())
        only = tuple(name for value in options.all("--only") for name in value.split(",") if name != "main")
        return LockInstall(
            lock="poetry.lock", extras=extras, groups=(*groups, *only), project="--no-root" not in options.values
        )
    return None


def read_user(command: Sequence[str]) -> tuple[str, int | None] | None:
    """Return name and uid of the account that ``useradd`` or ``adduser`` makes; groups alone are ("", None)."""
    if not command or command[0] not in ("useradd", "adduser", "groupadd", "addgroup"):
        return None
    if command[0] in ("groupadd", "addgroup"):
        return "", None
    valued = (
        "-u",
        "--uid",
        "-g",
        "--gid",
        "-G",
        "--groups",
        "-d",
        "--home",
        "--home-dir",
        "-s",
        "--shell",
        "-c",
        "--comment",
        "--gecos",
        "--ingroup",
    )
    options = _parse(command[1:], valued)
    uids = options.all("-u", "--uid")
    uid = int(uids[0]) if uids and uids[0].isdigit() else None
    return (options.words[0], uid) if options.words else None


def is_idle(command: Sequence[str]) -> bool:
    """Return whether a command changes nothing that an image of layers needs: caches, lists, settings of installers."""
    if not command:
        return True
    if command[0] == "rm":
        paths = [word for word in command[1:] if not word.startswith("-")]
        return all(path.startswith(_CACHES) for path in paths)
    pip = _after_pip(command)
    if pip is not None:
        return pip[:1] in (["cache"], ["config"], ["--version"], ["check"])
    return (
        list(command[:2])
        in (["poetry", "config"], ["uv", "venv"], ["uv", "python"], ["uv", "cache"], ["poetry", "--version"])
        or (command[0] in ("python", "python3") and list(command[1:3]) == ["-m", "venv"])
        or command[0] in ("echo", "virtualenv", "dpkg-reconfigure")
    )


def _after_pip(command: Sequence[str]) -> list[str] | None:
    words = list(command)
    if words and re.fullmatch(r"(?:\S*/)?pip(?:3(?:\.\d+)?)?", words[0]):
        return words[1:]
    if words[:2] == ["uv", "pip"]:
        return words[2:]
    if words and re.fullmatch(r"(?:\S*/)?python(?:3(?:\.\d+)?)?", words[0]) and words[1:3] == ["-m", "pip"]:
        return words[3:]
    return None


def _parse(words: Sequence[str], valued: Sequence[str]) -> _Options:
    options = _Options()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            options.words.append(word)
            continue
        name, equals, value = word.partition("=")
        if equals:
            options.values.setdefault(name, []).append(value)
        elif name in valued and rest:
            options.values.setdefault(name, []).append(rest.pop(0))
        elif len(name) > 2 and name[:2] in valued and not name.startswith("--"):
            options.values.setdefault(name[:2], []).append(name[2:])  # -rFILE
        else:
            options.values.setdefault(name, [])
    return options


def _is_path(word: str) -> bool:
    return word in (".", "..") or word.startswith(("./", "../", "/", ".[")) or word.endswith((".whl", ".tar.gz"))


def _long(name: str) -> str:
    return {"-i": "--index-url", "-f": "--find-links"}.get(name, name)
