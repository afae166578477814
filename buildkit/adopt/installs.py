"""What commands of a RUN install: Debian packages, Python packages, accounts. Pure.

Each reader returns None for a command that is not its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

_APT_VALUED = ("-t", "--target-release", "-o", "--option", "-c", "--config-file")
_APT_IDLE = (
    "update", "upgrade", "dist-upgrade", "full-upgrade", "clean", "autoclean", "autoremove", "purge", "remove",
    "build-dep",
)  # fmt: skip
_PIP_VALUED = (
    "--timeout", "--retries", "--cache-dir", "--progress-bar", "--python", "--prefix", "--target", "-t", "--root",
    "--link-mode", "--trusted-host", "--proxy", "--cert", "--wheel-dir", "-w", "--dest", "-d", "--src", "--platform",
    "--python-version", "--config-settings", "--config-setting", "-C", "--index-strategy", "--constraint-file",
)  # fmt: skip
_PIP_INPUT = ("--index-url", "-i", "--extra-index-url", "--find-links", "-f", "--no-binary", "--only-binary")
_LOCK_VALUED = (
    "--extra", "--group", "--only-group", "--no-group", "--package", "--python", "-p", "--link-mode", "--with",
    "--without", "--only", "-E", "--extras", "--directory", "-C", "--project", "--no-install-package",
)  # fmt: skip
_PIP_TOOLS = (
    "pip", "setuptools", "wheel", "uv", "poetry", "poetry-core", "poetry-plugin-export", "pipenv", "pip-tools",
    "virtualenv",
)  # fmt: skip
_UNKNOWN_TO_INPUTS = ("--no-build-isolation", "--config-settings", "--config-setting", "-C", "--target", "-t")
_BUILD_TOOLS = re.compile(
    r"(?:build-essential|gcc|g\+\+|cpp|clang|make|cmake|ninja-build|meson|cargo|rustc|pkg-config|pkgconf|swig|autoconf|"
    r"automake|libtool|patchelf|python3(?:\.\d+)?-(?:dev|venv|pip)|.+-dev)(?:-\d+)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipInstall:
    """An installation by pip or uv: requirement files, constraint files, requirements, local paths.

    ``settings`` are options for an input, such as ``--index-url``; ``flags`` are options that an input cannot have.
    """

    files: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockInstall:
    """An installation from a lock: ``uv sync`` or ``poetry install``, with extras, groups, and the project itself.

    ``package`` is a member of a workspace, in place of the project.
    """

    lock: str
    package: str = ""
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    project: bool = True


@dataclass(slots=True)
class CommandOptions:
    """The options of a command line: values by name, and the words that are no option."""

    values: dict[str, list[str]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def all(self, *names: str) -> tuple[str, ...]:
        """Return the values of options, in the order of their names."""
        return tuple(value for name in names for value in self.values.get(name, ()))


def name_address(address: str) -> str:
    """Return the requirement ``NAME @ ADDRESS`` for an address without a name; empty if none can be seen in it."""
    place, _, fragment = address.partition("#")
    named = re.search(r"(?:^|&)egg=([A-Za-z0-9._-]+)", fragment)
    file = place.rstrip("/").rpartition("/")[2].partition("@")[0]
    if address.startswith("git+"):
        name = named[1] if named else file.removesuffix(".git")
        kept = "&".join(part for part in fragment.split("&") if part.startswith("subdirectory="))
        return f"{name} @ {place}#{kept}" if kept else f"{name} @ {place}"
    name = file.partition("-")[0]
    return f"{name} @ {place}" if name and file.endswith((".whl", ".tar.gz", ".zip")) else ""


def read_apt(command: Sequence[str]) -> tuple[str, ...] | None:
    """Return the packages that an apt command installs: none for ``update`` and its kind."""
    if not command or command[0] not in ("apt-get", "apt", "aptitude"):
        return None
    options = parse_options(command[1:], _APT_VALUED)
    verb, *packages = options.words or [""]
    if verb == "install":
        return tuple(packages)
    return () if verb in _APT_IDLE else None


def is_build_tool(package: str) -> bool:
    """Return whether a Debian package only serves to compile: it belongs into the builder."""
    return _BUILD_TOOLS.fullmatch(package.partition("=")[0].partition(":")[0]) is not None


def read_pip(command: Sequence[str]) -> PipInstall | None:
    """Return what ``pip install``, ``pip wheel`` or ``uv pip install`` installs, without tools such as pip itself."""
    rest = after_pip(command)
    if rest is None or rest[:1] not in (["install"], ["wheel"], ["download"], ["sync"]):
        return None
    if rest[0] == "sync":
        return PipInstall(files=tuple(parse_options(rest[1:], (*_PIP_VALUED, *_PIP_INPUT)).words))
    options = parse_options(
        rest[1:], (*_PIP_VALUED, *_PIP_INPUT, "-r", "--requirement", "-c", "--constraint", "-e", "--editable")
    )
    local = [word for word in options.words if _is_path(word)]
    named = [word for word in options.words if not _is_path(word)]
    wanted = [word for word in named if re.split(r"[\[<>=!~ @;]", word, maxsplit=1)[0].lower() not in _PIP_TOOLS]
    settings = [f"{_long(name)} {value}" for name in _PIP_INPUT for value in options.values.get(name, ())]
    settings += ["--pre"] if "--pre" in options.values else []
    files, editable = options.all("-r", "--requirement"), options.all("-e", "--editable")
    return PipInstall(
        files=files,
        constraints=options.all("-c", "--constraint"),
        settings=tuple(settings) if wanted or files or local or editable else (),
        lines=tuple(wanted),
        paths=(*editable, *local),
        flags=tuple(name for name in _UNKNOWN_TO_INPUTS if name in options.values),
    )


def read_lock_install(command: Sequence[str]) -> LockInstall | None:
    """Return what ``uv sync`` or ``poetry install`` installs."""
    match tuple(command[:2]):
        case ("uv", "sync"):
            return _read_uv(command[2:])
        case ("poetry", "install" | "sync"):
            return _read_poetry(command[2:])
        case _:
            return None


def read_export(command: Sequence[str]) -> tuple[LockInstall, str] | None:
    """Return what ``uv export`` or ``poetry export`` takes from a lock, and the file that it writes."""
    if tuple(command[:2]) not in (("uv", "export"), ("poetry", "export")):
        return None
    output = ("-o", "--output", "--output-file")
    options = parse_options(command[2:], (*output, "-f", "--format", *_LOCK_VALUED))
    place = next(iter(options.all(*output)), "")
    lock = _read_uv(command[2:]) if command[0] == "uv" else _read_poetry(command[2:])
    return (replace(lock, project=False), place) if place else None


def _read_uv(words: Sequence[str]) -> LockInstall:
    options = parse_options(words, _LOCK_VALUED)
    groups = ("*",) if "--all-groups" in options.values else options.all("--group", "--only-group")
    extras = ("*",) if "--all-extras" in options.values else options.all("--extra")
    whole = options.values.keys().isdisjoint(("--no-install-project", "--no-emit-project", "--only-group"))
    package = next(iter(options.all("--package")), "")
    return LockInstall(lock="uv.lock", extras=extras, groups=groups, project=whole, package=package)


def _read_poetry(words: Sequence[str]) -> LockInstall:
    options = parse_options(words, _LOCK_VALUED)
    groups = [name for value in options.all("--with") for name in re.split(r"[\s,]+", value)]
    groups += [name for value in options.all("--only") for name in re.split(r"[\s,]+", value) if name != "main"]
    extras = [name for value in options.all("-E", "--extras") for name in value.split()]
    extras = ["*"] if "--all-extras" in options.values else extras
    whole = "--no-root" not in options.values
    return LockInstall(lock="poetry.lock", extras=tuple(extras), groups=tuple(groups), project=whole)


def read_user(command: Sequence[str]) -> tuple[str, int | None] | None:
    """Return name and uid of the account that ``useradd`` or ``adduser`` makes; groups alone are ("", None)."""
    if not command or command[0] not in ("useradd", "adduser", "groupadd", "addgroup"):
        return None
    if command[0] in ("groupadd", "addgroup"):
        return "", None
    valued = (
        "-u", "--uid", "-g", "--gid", "-G", "--groups", "-d", "--home", "--home-dir", "-s", "--shell", "-c",
        "--comment", "--gecos", "--ingroup", "-k", "--skel", "-b", "--base-dir", "-h",
    )  # fmt: skip
    options = parse_options(command[1:], valued)
    uids = options.all("-u", "--uid")
    uid = int(uids[0]) if uids and uids[0].isdigit() else None
    return (options.words[0], uid) if options.words else None


def after_pip(command: Sequence[str]) -> list[str] | None:
    """Return what follows ``pip``, ``uv pip`` or ``python -m pip``; None for other commands."""
    words = list(command)
    if words and re.fullmatch(r"(?:\S*/)?pip(?:3(?:\.\d+)?)?", words[0]):
        return words[1:]
    if words[:2] == ["uv", "pip"]:
        return words[2:]
    if words and re.fullmatch(r"(?:\S*/)?python(?:3(?:\.\d+)?)?", words[0]) and words[1:3] == ["-m", "pip"]:
        return words[3:]
    return None


def parse_options(words: Sequence[str], valued: Sequence[str]) -> CommandOptions:
    """Sort the words of a command line; ``valued`` are the options that take a value."""
    options = CommandOptions()
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
    if "://" in word:
        return False
    return word in (".", "..") or word.startswith(("./", "../", "/", ".[")) or word.endswith((".whl", ".tar.gz"))


def _long(name: str) -> str:
    return {"-i": "--index-url", "-f": "--find-links"}.get(name, name)
