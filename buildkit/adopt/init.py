"""``nox -s init``: read an existing repository, and write stages, lists and settings for it. Nothing is overwritten."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.adopt.draft import CopyDraft, ImageDraft, Leftover, WheelsDraft
from buildkit.adopt.instructions import ParsedContainerfile, SourceStage, read_containerfile
from buildkit.adopt.render import ModelDraft, find_model_drafts, render_files, render_settings
from buildkit.adopt.roots import choose_without_file
from buildkit.adopt.survey import Survey, survey
from buildkit.adopt.translate import RepositoryFacts, translate
from buildkit.declare.containerignore import parse_ignore_file
from buildkit.declare.toml import parse_toml
from buildkit.errors import BuildError, DefinitionError, describe_disk_error
from buildkit.tools.git import list_files

_SETTINGS = "pyproject.toml"
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class InitOptions:
    """``file`` is the Containerfile, ``target`` the build stage of it, ``name`` the new stage; each is optional.

    ``into`` is another folder to write to, relative to the repository.
    """

    file: str = ""
    target: str = ""
    name: str = "app"
    into: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What ``init`` has written: paths of new files and of files that were added to, and what is left to a person."""

    stage: str
    written: tuple[str, ...]
    extended: tuple[str, ...]
    leftovers: tuple[Leftover, ...]


def adopt(folder: Path, options: InitOptions) -> Adoption:
    """Read the repository and write the files. Raises DefinitionError if one of them exists, and BuildError."""
    found = survey(folder, options.file)
    image, leftovers = _read(found, options)
    models = _find_models(found, image)
    whole = {(model.source, posixpath.join(model.target, model.name)) for model in models if not model.files}
    image.copies = {copy: None for copy in image.copies if (copy.source, copy.target) not in whole}
    files = render_files(image, models)
    assert image.root is not None  # noqa: S101 - `_read` refuses an image without a root
    ignored = _render_ignore_file(found, models)
    if ignored:
        files[".containerignore"] = ignored
    place = folder / options.into
    existing, leftovers = _keep_noxfile(place, files, leftovers)
    settings = render_settings(image.root)
    before = found.read(posixpath.join(options.into, _SETTINGS))
    files = {path: text for path, text in files.items() if not _is_there(place / path, text)}
    has_settings = settings in before  # those of another service of the repository
    _refuse_existing(place, files, "" if has_settings else before, existing)
    extended = (_SETTINGS,) if before.strip() and not has_settings else ()
    if not has_settings:
        files[_SETTINGS] = f"{before.rstrip()}\n\n{settings}" if before.strip() else settings
    _write(place, files)
    leftovers = (*leftovers, *_left_out(found, image))
    return Adoption(stage=image.name, written=tuple(files), extended=extended, leftovers=leftovers)


def _read(found: Survey, options: InitOptions) -> tuple[ImageDraft, tuple[Leftover, ...]]:
    if not found.containerfile:
        return _draft_without_file(found, options.name), ()
    file = read_containerfile(found.read(found.containerfile), found.containerfile)
    tree = RepositoryFacts(exists=found.exists, python=found.python)
    image, leftovers = translate(file, _choose_target(file, options.target), options.name, tree)
    if image.root is None:
        lines = "\n".join(map(str, leftovers))
        raise DefinitionError(f"{found.containerfile}: its base is not known", hint=lines)
    return image, leftovers


def _choose_target(file: ParsedContainerfile, wanted: str) -> SourceStage:
    if not wanted:
        return file.stages[-1]
    for stage in file.stages:
        if stage.name.lower() == wanted.lower():
            return stage
    names = ", ".join(stage.name for stage in file.stages if stage.name) or "none has a name"
    raise DefinitionError(f"{file.path}: there is no build stage `{wanted}`", hint=f"its stages: {names}")


def _draft_without_file(found: Survey, name: str) -> ImageDraft:
    """Return the draft of a Python project that has no Containerfile."""
    root = choose_without_file(found.python if found.exact else "")
    if root is None:
        raise DefinitionError(
            f"there is no Containerfile, and Debian has no Python {found.python}",
            hint="write a Containerfile with a FROM that has it, or change .python-version",
        )
    locks = [lock for lock in ("uv.lock", "poetry.lock", "pylock.toml") if found.exists(lock)][:1]
    is_package = found.exists(_SETTINGS) and bool(parse_toml(found.read(_SETTINGS), _SETTINGS).get("build-system"))
    lines = tuple(f"-r {file}" for file in found.requirement_files[:1])
    image = ImageDraft(name=name, root=root, workdir="/app", user="app", users={"app": 1000})
    if locks:
        image.wheels = WheelsDraft(locks=tuple(locks), package=is_package)
    elif found.exists(_SETTINGS) and is_package:
        image.wheels = WheelsDraft(lines=("./",), package=True)
    elif lines:
        image.wheels = WheelsDraft(lines=lines)
    else:
        raise DefinitionError(
            "there is no Containerfile, no lock, no requirements file and no package here",
            hint="run it at the top of a Python project, or name a Containerfile: "
            f"nox -s init -- --file {_find_deeper_file(found.folder)}",
        )
    if not is_package:
        image.copies = {CopyDraft(source=".", target="/app"): None}
    return image


def _find_deeper_file(folder: Path) -> str:
    """Return the first Containerfile below the folder that git knows; ``PATH`` if there is none."""
    listed = list_files(folder, ".")
    names = (*listed.tracked, *listed.untracked) if listed else ()
    return min((name for name in names if posixpath.basename(name) in ("Containerfile", "Dockerfile")), default="PATH")


def _find_models(found: Survey, image: ImageDraft) -> tuple[ModelDraft, ...]:
    others = {folder: _has_others(found.folder / folder, names) for folder, names in found.models.items()}
    return find_model_drafts(image, found.models, others)


def _has_others(folder: Path, names: tuple[str, ...]) -> bool:
    return any(path.name not in names for path in folder.iterdir())


def _render_ignore_file(found: Survey, models: tuple[ModelDraft, ...]) -> str:
    """Return .containerignore: the rules of .dockerignore, and model files, which layers of their own hold."""
    if found.exists(".containerignore") and not models:
        return ""
    lines = [found.read(".containerignore").rstrip() or found.dockerignore.rstrip()]
    if models:
        lines.append("# packed as models, in layers of their own")
        for model in models:
            lines += [posixpath.join(model.source, name) for name in model.files] or [f"{model.source}/**"]
    text = "\n".join(line for line in lines if line)
    return f"{text}\n" if text else ""


def _keep_noxfile(
    place: Path, files: dict[str, str], leftovers: tuple[Leftover, ...]
) -> tuple[tuple[str, ...], tuple[Leftover, ...]]:
    """Keep a noxfile that exists, and say what it needs."""
    path = place / "noxfile.py"
    if not path.exists():
        return (), leftovers
    del files["noxfile.py"]
    text = path.read_text("utf-8")
    if "buildkit.sessions" in text:
        return ("noxfile.py",), leftovers
    advice = "add two lines: from buildkit.sessions import register; register()"
    line = text.count("\n") + 1
    return ("noxfile.py",), (
        *leftovers,
        Leftover(file="noxfile.py", line=line, text="its sessions stay", advice=advice),
    )


def _is_there(path: Path, text: str) -> bool:
    """Return whether a file has this very text: a service beside others shares their base."""
    try:
        return path.read_text("utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _refuse_existing(place: Path, files: Mapping[str, str], settings: str, kept: tuple[str, ...]) -> None:
    there = [path for path in files if path not in kept and (place / path).exists()]
    if "[tool.buildkit" in settings:
        there.append(f"{_SETTINGS}: [tool.buildkit]")
    if there:
        raise DefinitionError(
            "nothing was written, because it is there already: " + ", ".join(there),
            hint="write the draft elsewhere and compare: nox -s init -- --into draft",
        )


def _write(place: Path, files: Mapping[str, str]) -> None:
    try:
        for path, text in files.items():
            target = place / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if path == _SETTINGS:
                temporary = target.with_name(f".{target.name}.new")
                temporary.write_text(text, "utf-8")
                temporary.replace(target)
            else:
                with target.open("x", encoding="utf-8") as file:
                    file.write(text)
    except OSError as error:
        raise BuildError(f"{error.filename}: {describe_disk_error(error) or error.strerror}") from error


def _left_out(found: Survey, image: ImageDraft) -> Iterator[Leftover]:
    """Yield what ``COPY`` took and git ignores: it is no part of a commit, so no part of the image."""
    is_ignored = parse_ignore_file(found.dockerignore, ".dockerignore")
    for copy in image.copies:
        names = [name for name in _ignored_files(found.folder, copy.source) if not is_ignored(name)]
        if names:
            shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
            advice = f"git ignores them, so they stay out: track them, or set `untracked = true` for {copy.source}"
            yield Leftover(file=found.containerfile or copy.source, line=0, text=shown, advice=advice)


def _ignored_files(folder: Path, source: str) -> list[str]:
    """Return files on the disk below ``source`` that git neither tracks nor lists as new."""
    listed = list_files(folder, source)
    if listed is None:
        return []
    known = {*listed.tracked, *listed.untracked}
    place = folder / source
    found = []
    for parent, folders, names in os.walk(place):
        folders[:] = [name for name in folders if name not in (".git", "__pycache__", ".venv", "node_modules")]
        found += [str((Path(parent) / name).relative_to(folder)) for name in names]
    return sorted(name for name in found if name not in known and not name.endswith(".pyc"))
