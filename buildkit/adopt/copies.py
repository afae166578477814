"""COPY and ADD: which files of the repository are where in the image. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import TypeVar

from buildkit.adopt.draft import CopyDraft
from buildkit.adopt.reading import ContainerfileReading, StageFiles
from buildkit.declare.instructions import Instruction
from buildkit.declare.paths import find_reserved

_Value = TypeVar("_Value")
_PACKAGE_FILES = re.compile(
    r"(?:.*/)?(?:pyproject\.toml|uv\.lock|poetry\.lock|setup\.(?:py|cfg)|requirements[\w.-]*\.(?:txt|in)|\.python-version|"
    r"constraints[\w.-]*\.txt|Pipfile(?:\.lock)?|pylock(?:\.[\w-]+)?\.toml|(?:environment|conda)[\w.-]*\.ya?ml)"
)
_PACKAGE_PLACES = re.compile(
    r"(?:/opt/|/app/|/)?(?:.*/)?(?:\.?venv|virtualenv|site-packages|dist-packages|install|\.local|wheels|wheelhouse)"
    r"(?:/.*)?|/usr/local(?:/(?:bin|lib).*)?|/opt/conda.*|/root/\.cache/.*"
)
_TOOL_PLACES = ("/uv", "/uvx", "/usr/local/bin/uv", "/usr/local/bin/uvx", "/bin/uv", "/bin/uvx", "/aws-lambda-adapter")
_ARCHIVES = re.compile(r".*\.(?:tar(?:\.\w+)?|tgz|txz|tbz2?)")
_LISTS = re.compile(r".*\.(?:txt|in|toml|lock|ya?ml)")
_RULES = "list them in .containerignore"


def is_package_place(path: str) -> bool:
    """Return whether a path of an image is one at which packages are installed."""
    return _PACKAGE_PLACES.fullmatch(path) is not None


def is_package_file(path: str) -> bool:
    """Return whether a file of the repository only serves installations."""
    return _PACKAGE_FILES.fullmatch(path) is not None


def is_tool_copy(sources: tuple[str, ...]) -> bool:
    """Return whether ``COPY --from`` an image fetches only an installer, such as uv."""
    return all(source in _TOOL_PLACES for source in sources)


def split_copy(instruction: Instruction, value: str) -> tuple[tuple[str, ...], str] | None:
    """Return the sources and the target of ``COPY``; None if there are none."""
    words = instruction.words or tuple(value.split())
    return (words[:-1], words[-1]) if len(words) > 1 else None


def copy_texts(reading: ContainerfileReading, instruction: Instruction) -> None:
    """Keep the here-documents of ``COPY`` as files of the repository, next to the stage file."""
    split = split_copy(instruction, instruction.value)
    target = reading.expand(split[1]) if split else None
    if target is None or len(instruction.heredocs) != 1 or split is None or len(split[0]) != 1:
        reading.leave(instruction, "write the files into the repository and copy them")
        return
    (heredoc,) = instruction.heredocs
    text = reading.expand(heredoc.text) if heredoc.expands else heredoc.text
    if text is None:
        reading.leave(instruction, "a variable in it has no value here: write the file into the repository and copy it")
        return
    place = reading.files.absolute(target)
    if target.endswith("/"):
        place = posixpath.join(place, heredoc.end)
    path = f"stages/{reading.tree.stage}/files/{place.lstrip('/')}"
    reading.files.generated[path] = text
    _place(reading, instruction, path, place)


def copy_source(
    reading: ContainerfileReading, instruction: Instruction, source: str, target: str, *, several: bool
) -> None:
    """Note where a source of the repository is in the image."""
    if "://" in source or source.startswith("git@"):
        reading.leave(instruction, 'fetch it into the repository, or make it a model (source = "https://…")')
        return
    if any(letter in source for letter in "*?["):
        found = reading.tree.find(reading.in_context(source))
        if not found and not is_package_file(source.rstrip("*")):  # `poetry.lock*` need not be there
            reading.leave(instruction, "nothing in the repository matches: write the files out, or copy their folder")
        for path in found:
            copy_path(reading, instruction, path, f"{target.rstrip('/')}/", several=True)
        return
    if instruction.name == "ADD" and _ARCHIVES.fullmatch(source):
        reading.leave(instruction, "ADD unpacks it: put its files into the repository, or unpack it by a [[run]] step")
        return
    copy_path(reading, instruction, reading.in_context(source), target, several=several)


def copy_path(
    reading: ContainerfileReading, instruction: Instruction, path: str, target: str, *, several: bool
) -> None:
    """Note where ``path`` of the repository is in the image."""
    place = reading.files.absolute(target)
    is_folder = several or target.endswith("/") or target in (".", "./")
    inside = posixpath.join(place, posixpath.basename(path))
    if is_package_file(path):  # what installs reads it
        at = inside if is_folder or place == (reading.files.workdir or "/") else place
        if reading.tree.exists(path) or path.endswith((".lock", ".toml", ".txt")):
            reading.files.packages[at] = path
        return
    if not reading.tree.exists(path):
        reading.leave(instruction, f"{path} is not in the repository")
        return
    if is_folder and not reading.tree.exists(f"{path}/"):
        place = inside
    _place(reading, instruction, path, place)


def _place(reading: ContainerfileReading, instruction: Instruction, path: str, place: str) -> None:
    if not reading.is_dependency and (reserved := find_reserved(place)):
        reading.files.packages[place] = path
        if reserved not in ("tmp", "var/tmp") or not _LISTS.fullmatch(path):  # lists are for a later instruction
            reading.leave(instruction, f"no layer may have /{reserved}: copy it elsewhere")
        return
    copies = reading.files.copies
    if not reading.tree.exists(f"{path}/"):  # folders at one place are merged, a file replaces another
        for copy in [copy for copy in copies if copy[0] == place]:
            del copies[copy]
    copies[place, path] = None
    if instruction.flag("exclude") is not None:
        reading.leave(instruction, f"--exclude={instruction.flag('exclude')}: {_RULES}")
    mode = instruction.flag("chmod") or ""
    is_wanted = mode.lstrip("0")[:1] in ("1", "3", "5", "7") or "x" in mode
    if is_wanted and not reading.tree.exists(f"{path}/") and not reading.tree.is_executable(path):
        reading.leave(instruction, f"git keeps the mode: git update-index --chmod=+x {path}")


def copy_files(origin: StageFiles, source: str, target: str, into: StageFiles) -> bool:
    """Copy what another stage has at ``source``; return whether it has something there that is known.

    What is at a place of packages is known to installations, and not copied.
    """
    start = posixpath.normpath(source)
    place = into.absolute(target)
    name = posixpath.basename(start)
    if "." in name and (target.endswith("/") or target in (".", "./")):  # a file keeps its name
        place = posixpath.join(place, name)
    copies = {(at, path): None for old, path in origin.copies for at, _ in _moved({old: path}, start, place)}
    inner = origin.find_source(start)
    if not copies and inner is not None:
        copies = {(place, inner): None}
    packages, locks = dict(_moved(origin.packages, start, place)), dict(_moved(origin.locks, start, place))
    if is_package_place(start):
        packages |= dict(list(copies))
    else:
        into.copies |= copies
    into.packages |= packages
    into.locks |= locks
    return bool(copies or packages or locks or is_package_place(start))


def _moved(files: Mapping[str, _Value], start: str, place: str) -> Iterator[tuple[str, _Value]]:
    for at, value in files.items():
        if at == start:
            yield place, value
        elif at.startswith(f"{start.rstrip('/')}/"):
            yield posixpath.join(place, at[len(start.rstrip("/")) + 1 :]), value


def find_copies(files: StageFiles) -> dict[CopyDraft, None]:
    """Return the copies of an image, without those that another one holds at the same place."""
    return {
        CopyDraft(source=source, target=place): None
        for place, source in files.copies
        if not any(_covers(other, at, source, place) for at, other in files.copies if at != place)
    }


def _covers(source: str, target: str, inner: str, place: str) -> bool:
    """Return whether ``inner`` comes to ``place`` by copying ``source`` to ``target``."""
    if source != "." and not inner.startswith(f"{source}/"):
        return False
    rest = inner if source == "." else inner[len(source) + 1 :]
    return posixpath.normpath(posixpath.join(target, rest)) == place
