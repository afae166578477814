"""``nox -s init``: read an existing repository, and write stages, lists and settings for it. Nothing is overwritten."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit.adopt.bridge import format_bridge, offer_bridge
from buildkit.adopt.build_systems import find_build_requirements
from buildkit.adopt.compose import ComposeFile
from buildkit.adopt.draft import CopyDraft, ImageDraft, Leftover, WheelsDraft
from buildkit.adopt.models import add_models
from buildkit.adopt.reading import RepositoryFacts
from buildkit.adopt.render import render_files, render_settings
from buildkit.adopt.roots import choose_without_file
from buildkit.adopt.services import apply_service
from buildkit.adopt.sources import ImageSource, InitOptions, choose_target, find_deeper_files, find_sources, stage_of
from buildkit.adopt.survey import Survey, survey
from buildkit.adopt.translate import translate
from buildkit.declare.containerignore import parse_ignore_file
from buildkit.declare.instructions import read_containerfile
from buildkit.declare.toml import parse_toml
from buildkit.errors import BuildError, DefinitionError, describe_disk_error
from buildkit.tools.git import list_files

_SETTINGS = "pyproject.toml"
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What ``init`` has written: paths of new files and of files that were added to, and what is left to a person.

    ``stages`` are the names of the images that ship.
    """

    stages: tuple[str, ...]
    written: tuple[str, ...]
    extended: tuple[str, ...]
    leftovers: tuple[Leftover, ...]


def adopt(folder: Path, options: InitOptions) -> Adoption:
    """Read the repository and write the files. Raises DefinitionError if one of them exists, and BuildError."""
    found = survey(folder)
    sources = find_sources(found, options)
    drafts = [_read(found, source, sources.compose) for source in sources.images]
    leftovers = [*(left for _, some in drafts for left in some), *sources.leftovers]
    images, dropped = _with_one_python([image for some, _ in drafts for image in some])
    if not images:
        images = [_draft_without_file(found, options.name or "app")]
    _find_models(found, images)
    files = render_files(images, find_build_requirements(found, images))
    if ignored := _render_ignore_file(found, sources.images, images, files):
        files[".containerignore"] = ignored
    place = folder / options.into
    existing, told = _keep_noxfile(place, files)
    written, extended = _write_files(found, options.into, images[0], files, existing)
    bridges = _offer_bridges(found, sources.images, drafts)
    leftovers += [*dropped, *told, *_left_out(found, sources.images, images), *bridges]
    stages = tuple(image.name for image in images if image.ships)
    return Adoption(stages=stages, written=written, extended=extended, leftovers=tuple(leftovers))


def _write_files(
    found: Survey, into: str, image: ImageDraft, files: dict[str, str], existing: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write the files and the settings; return their paths, and those of files that were added to."""
    assert image.root is not None  # noqa: S101 - `_read` refuses an image without a root
    place = found.folder / into
    settings = render_settings(image.root)
    before = found.read(posixpath.join(into, _SETTINGS))
    files = {path: text for path, text in files.items() if not _is_there(place / path, text)}
    has_settings = settings in before  # those of another service of the repository
    _refuse_existing(place, files, "" if has_settings else before, existing)
    extended = (_SETTINGS,) if before.strip() and not has_settings else ()
    if not has_settings:
        files[_SETTINGS] = f"{before.rstrip()}\n\n{settings}" if before.strip() else settings
    _write(place, files)
    return tuple(files), extended


def _read(
    found: Survey, source: ImageSource, compose: ComposeFile | None
) -> tuple[list[ImageDraft], tuple[Leftover, ...]]:
    """Return the drafts of an image and of the services that run it, the image first if there are several."""
    file = read_containerfile(found.read(source.file), source.file)
    tree = RepositoryFacts(
        exists=found.exists, find=found.find, read=found.read, is_executable=found.is_executable,
        python=found.python, context=source.context, stage=source.name,
    )  # fmt: skip
    image, left = translate(file, choose_target(file, source.target), tree, source.arguments)
    if image.root is None:
        hint = "\n".join([*map(str, left), format_bridge(file, source)])
        raise DefinitionError(f"{source.file}: its base is not known", hint=hint)
    if compose is None or not source.services:
        return [image], left
    if len(source.services) == 1:
        return [image], (*left, *apply_service(image, source.services[0], compose))
    image.ships = False
    children = []
    for service in source.services:
        child = ImageDraft(name=stage_of(service), root=image.root, base=image.name)
        left = (*left, *apply_service(child, service, compose))
        children.append(child)
    return [image, *children], left


def _offer_bridges(
    found: Survey, sources: Iterable[ImageSource], drafts: Iterable[tuple[list[ImageDraft], tuple[Leftover, ...]]]
) -> Iterator[Leftover]:
    """Yield the bridge for each file, once, of which something is left that would become steps."""
    offered: set[str] = set()
    for source, (images, left) in zip(sources, drafts, strict=True):
        if source.file not in offered:
            file = read_containerfile(found.read(source.file), source.file)
            for bridge in offer_bridge(file, source, images[0], left):
                offered.add(source.file)
                yield bridge


def _with_one_python(images: Sequence[ImageDraft]) -> tuple[list[ImageDraft], tuple[Leftover, ...]]:
    """Keep the images that have the Python of the first, and give each different root a stage of its own."""
    kept: list[ImageDraft] = []
    left: list[Leftover] = []
    bases: dict[object, str] = {}
    for image in images:
        root = image.root
        assert root is not None  # noqa: S101 - `_read` refuses an image without a root
        if kept and kept[0].root is not None and root.python != kept[0].root.python:
            text = f"the image {image.name}: Python {root.python}"
            advice = (
                f"a project has one Python, here {kept[0].root.python}: make a project of its own of it (--into FOLDER)"
            )
            left.append(Leftover(file=_SETTINGS, line=0, text=text, advice=advice))
            continue
        name = bases.setdefault(root, "base" if not bases else f"base-{image.name}")
        image.base = name if image.base == "base" else image.base
        kept.append(image)
    return kept, tuple(left)


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
        deeper = find_deeper_files(found) or ("PATH",)
        raise DefinitionError(
            "there is no Containerfile, no lock, no requirements file and no package here",
            hint="run it at the top of a Python project, or name its Containerfiles: "
            f"nox -s init -- {' '.join(f'--file {file}' for file in deeper[:_SHOWN])}",
        )
    if not is_package:
        image.copies = {CopyDraft(source=".", target="/app"): None}
    return image


def _find_models(found: Survey, images: Iterable[ImageDraft]) -> None:
    others = {folder: _has_others(found.folder / folder, names) for folder, names in found.models.items()}
    taken: dict[str, str] = {}
    for image in images:
        add_models(image, found.models, others, taken)
        taken |= {model.name: model.source for model in image.models}


def _has_others(folder: Path, names: tuple[str, ...]) -> bool:
    return any(path.name not in names for path in folder.iterdir())


def _render_ignore_file(
    found: Survey, sources: Iterable[ImageSource], images: Sequence[ImageDraft], files: Mapping[str, str]
) -> str:
    """Return .containerignore: the rules of .dockerignore, and what layers of their own hold, or the project itself."""
    contexts = [(source.file, source.context) for source in sources] or [("Dockerfile", ".")]
    rules = found.read(".containerignore") or "".join(
        dict.fromkeys(found.read_ignore_rules(file, context) for file, context in contexts)
    )
    lines = [rules.rstrip()]
    models = dict.fromkeys(model for image in images for model in image.models if model.source.startswith("path:"))
    if models:
        lines.append("# packed as models, in layers of their own")
    for model in models:
        source = model.source.removeprefix("path:")
        lines += [posixpath.join(source, name) for name in model.files] or [f"{source}/**"]
    if any(copy.source == "." for image in images for copy in image.copies):
        lines.append("# what the images are made from is no part of them")
        lines += [
            "stages/**/stage.toml" if any(image.texts for image in images) else "stages",
            *_made_files(found, files),
        ]
    if lines == [rules.rstrip()] and found.exists(".containerignore"):
        return ""
    text = "\n".join(line for line in lines if line)
    return f"{text}\n" if text else ""


def _made_files(found: Survey, files: Mapping[str, str]) -> list[str]:
    if not found.exists("requirements/"):
        return ["requirements", "noxfile.py"]
    ours = sorted(path.rpartition(".")[0] for path in files if path.startswith("requirements/"))
    return [*(f"{path}.*" for path in dict.fromkeys(ours)), "noxfile.py"]


def _keep_noxfile(place: Path, files: dict[str, str]) -> tuple[tuple[str, ...], tuple[Leftover, ...]]:
    """Keep a noxfile that exists, and say what it needs."""
    path = place / "noxfile.py"
    if not path.exists():
        return (), ()
    del files["noxfile.py"]
    text = path.read_text("utf-8", "replace")
    if "buildkit.sessions" in text:
        return ("noxfile.py",), ()
    advice = "add two lines: from buildkit.sessions import register; register()"
    line = text.count("\n") + 1
    return ("noxfile.py",), (Leftover(file="noxfile.py", line=line, text="its sessions stay", advice=advice),)


def _is_there(path: Path, text: str) -> bool:
    """Return whether a file has this very text: a service beside others shares their base."""
    try:
        return path.read_text("utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _refuse_existing(place: Path, files: Mapping[str, str], settings: str, kept: Sequence[str]) -> None:
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


def _left_out(found: Survey, sources: Sequence[ImageSource], images: Iterable[ImageDraft]) -> Iterator[Leftover]:
    """Yield what ``COPY`` took and git ignores: it is no part of a commit, so no part of the image."""
    file, context = (sources[0].file, sources[0].context) if sources else ("", ".")
    is_ignored = parse_ignore_file(found.read_ignore_rules(file or "Dockerfile", context), ".dockerignore")
    for source in dict.fromkeys(copy.source for image in images for copy in image.copies):
        names = [name for name in _ignored_files(found.folder, source) if not is_ignored(name)]
        if names:
            shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
            copied = "/" if source == "." else f"/{source}"
            advice = (
                f'git ignores them, so they stay out: track them, or add `untracked = true` to the copy of "{copied}"'
            )
            yield Leftover(file=file or source, line=0, text=f"COPY took {shown}", advice=advice)


def _ignored_files(folder: Path, source: str) -> list[str]:
    """Return files on the disk below ``source`` that git neither tracks nor lists as new."""
    listed = list_files(folder, source)
    if listed is None:
        return []
    known = {*listed.tracked, *listed.untracked}
    found = []
    for parent, folders, names in os.walk(folder / source):
        folders[:] = [name for name in folders if name not in (".git", "__pycache__", ".venv", "node_modules")]
        found += [str((Path(parent) / name).relative_to(folder)) for name in names]
    return sorted(name for name in found if name not in known and not name.endswith(".pyc"))
