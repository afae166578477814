"""Lines of a requirements input that a resolver takes and that no lock of ours can hold, each with what to write."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from buildkit.declare.written_secrets import has_login, hide_logins
from buildkit.errors import Problem
from buildkit.locks.git_source import is_git, parse_git_source
from buildkit.locks.requirement_inputs import Read, included_path
from buildkit.locks.requirements_txt import logical_lines

_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s+|=)")
_NAMED = re.compile(r"^[\w.-]+\s*(?:\[[^]]*\])?\s*@\s*")
_URL = re.compile(r"(?:\w+\+)?\w+://")
_ITSELF = re.compile(r"\.\.?(\[[^]]*\])?")
_FILE = re.compile(r"\.(?:whl|zip|tar\.\w+|tgz)(?:\[[^]]*\])?")
_SECRET = re.compile(r"(?:-[if]|--index-url|--extra-index-url|--find-links)\s*=?\s*\w+://[^/\s]*@")
_TOML = (
    "is not a file of requirements",
    "write ./ (or ./[extra]) for the project itself, or name its uv.lock in the stage",
)
_FILE_URL = re.compile(r"https?://[^\s@#?]+/[^\s@#?/]+\.(?:whl|tar\.gz|zip)(?:#\S*)?")
_NO_URL = "write NAME @ https://HOST/FILE.whl, or NAME==VERSION with an index or --find-links that has the file"
_LOGIN = ("has credentials", "put them into netrc, or into the index settings of pip or uv")
_UV = 'set locker = "uv", or depend on a release'
_SHOWN = 200  # characters of a line in a message


def find_input_problems(file: str, read: Read, locker: str = "uv") -> list[Problem]:
    """Return the problems of an input and of the files that it includes."""
    return list(_find(file, read, locker, set()))


def allows_prereleases(file: str, read: Read) -> bool:
    """Return whether an input, or a file that it includes, says ``--pre``, which uv knows on its command line alone."""
    seen, todo = set[str](), [file]
    while todo:
        place = todo.pop()
        if place in seen:
            continue
        seen.add(place)
        for _, line in logical_lines(read(place) or ""):
            if line == "--pre":
                return True
            if included := included_path(line):
                todo.append(posixpath.normpath(posixpath.join(posixpath.dirname(place), included)))
    return False


def _find(file: str, read: Read, locker: str, seen: set[str]) -> Iterator[Problem]:
    if file in seen:
        return
    seen.add(file)
    for number, line in logical_lines(read(file) or ""):
        if (included := included_path(line)) and included.endswith(".toml"):
            yield Problem(file=f"{file}:{number}", what=f"`{line[:_SHOWN]}` {_TOML[0]}", hint=_TOML[1])
        elif included:
            yield from _find(posixpath.normpath(posixpath.join(posixpath.dirname(file), included)), read, locker, seen)
        elif found := _judge(line.partition(" ;")[0].strip(), read, locker):
            what = f"`{hide_logins(line)[:_SHOWN]}` {found[0]}"
            yield Problem(file=f"{file}:{number}", what=what, hint=hide_logins(found[1]))


def _judge(line: str, read: Read, locker: str) -> tuple[str, str] | None:
    """Return what is wrong with a line, and what to write instead; None for a line that a lock can hold."""
    if _SECRET.match(line):
        return _LOGIN
    if line.startswith("-") and not _EDITABLE.match(line):
        return None
    place = _NAMED.sub("", _EDITABLE.sub("", line, count=1), count=1)
    if is_git(place):
        return _judge_git(line, place) if locker == "uv" else (f"is what {locker} pins no commit of", _UV)
    path = place.removeprefix("file:")
    if _URL.match(place) and not place.startswith("file:."):
        return _judge_url(line, place)
    if itself := _ITSELF.fullmatch(path):
        return "is a folder without a slash", f"write {path.partition('[')[0]}/{itself[1] or ''}"
    if _FILE.search(path) and ("/" in path or path.partition("[")[0].endswith((".whl", ".tar.gz"))):
        return "is a file", "name its folder by --find-links, and write NAME==VERSION"
    if path.startswith("/"):
        return "is a path of this machine", "write the path from the checkout: ./libs/x"
    if "/" in path and not path.startswith(("./", "../")):
        return "is a path without ./", f"write ./{path}"
    if path.startswith(("./", "../")):
        return _judge_folder(posixpath.normpath(re.split(r"[\s\[;]", path, maxsplit=1)[0]), read)
    return None


def _judge_url(line: str, place: str) -> tuple[str, str] | None:
    """Return what is wrong with a package at a URL."""
    if has_login(place):
        return _LOGIN
    return None if place != line and _FILE_URL.fullmatch(place) else ("is a URL", _NO_URL)


def _judge_git(line: str, place: str) -> tuple[str, str] | None:
    """Return what is wrong with a package of a git repository."""
    requirement = _EDITABLE.sub("", line, count=1)
    if requirement == place:
        url, _, fragment = place.partition("#")
        fields = [field for field in fragment.split("&") if field]
        name = next((field.removeprefix("egg=") for field in fields if field.startswith("egg=")), "NAME")
        rest = "&".join(field for field in fields if not field.startswith("egg="))
        return "is a repository without the name of its package", f"write {name} @ {url}{'#' * bool(rest)}{rest}"
    if requirement != line:
        return "is a package to be edited in place, which no image has", f"write {requirement}"
    try:
        parse_git_source(place, revision=True)
    except ValueError as error:
        return str(error), "write NAME @ git+https://HOST/PATH@REVISION"
    return None


def _judge_folder(folder: str, read: Read) -> tuple[str, str] | None:
    """Return what is wrong with a folder that should hold a package."""
    if any(read(posixpath.join(folder, name)) is not None for name in ("pyproject.toml", "setup.py")):
        return None
    modules = re.findall(r"^\s*path\s*=\s*(.+?)\s*$", read(".gitmodules") or "", re.MULTILINE)
    above = [module for module in modules if f"{folder}/".startswith(f"{module}/")]
    if above and read(posixpath.join(above[0], ".git")) is None:
        return "is in a submodule that is not fetched", f"run: git submodule update --init -- {above[0]}"
    return "has no pyproject.toml and no setup.py", f"is {folder} the folder of a package, and checked out?"
