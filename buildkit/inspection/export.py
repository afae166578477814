"""``nox -s export-containerfile``: a stage as a plain Containerfile that builds without this project."""

from __future__ import annotations

import argparse
import posixpath
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from buildkit.containerfile.parts import Export, ExportOptions, SideFile
from buildkit.containerfile.render import MARK, render_export
from buildkit.declare.project import Project
from buildkit.engine.checkout import IGNORE_FILE
from buildkit.engine.options import Parser
from buildkit.engine.planning import Planner, check_stage, open_planner
from buildkit.errors import DefinitionError
from buildkit.report.view import open_view


def export(folder: Path, arguments: Sequence[str]) -> None:
    """Write the Containerfile of a stage, and the files that it needs; raises DefinitionError or BuildError."""
    options = _parse(arguments)
    with open_view(sys.stderr) as say, open_planner(folder, say) as planner:
        name = check_stage(planner.graph, options.stage)
        chosen = _choose(options, planner)
        made = make_export(planner, name, chosen)
    written = write_export(folder, chosen, made)
    sys.stderr.write(f"{chosen.file}: {name}, with {len(made.files)} files beside it; {written} changed\n")


def make_export(planner: Planner, name: str, options: ExportOptions) -> Export:
    """The export of a stage; raises DefinitionError."""
    composer = planner.composer
    return render_export(composer.compose(name), lambda: composer.builder, planner.shop.project, options)


def write_export(folder: Path, options: ExportOptions, made: Export) -> int:
    """Bring an export to the project's folder; returns how many files are not what they were.

    What an earlier export left and this one lacks is removed. Raises DefinitionError where a file of somebody
    else would be replaced.
    """
    place = folder / options.file
    if place.exists() and not place.read_text("utf-8", errors="replace").startswith(MARK):
        raise DefinitionError(
            f"{options.file} is there already, and is no export", hint="name another file by --output, or remove it"
        )
    known = place.exists()
    files = (SideFile(path=options.file, text=made.text), *made.files)
    changed = sum(_write(folder / file.path, file.text) for file in files)
    if known:
        _remove_others(folder / options.folder, {folder / file.path for file in files})
    return changed


def _write(path: Path, text: str) -> bool:
    """Write a file unless it holds this text: builders look at times too."""
    if path.is_file() and path.read_text("utf-8", errors="replace") == text:
        return False
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    return True


def _remove_others(folder: Path, kept: Iterable[Path]) -> None:
    for path in sorted(set(folder.glob("*")).difference(kept)):
        if path.is_file():
            path.unlink()


def _choose(options: argparse.Namespace, planner: Planner) -> ExportOptions:
    project = planner.shop.project
    bytecode = project.bytecode if options.bytecode is None else options.bytecode
    return ExportOptions(
        file=_inside(project, options.output, "--output"),
        bytecode=bytecode,
        link=options.link,
        root=options.root,
        find_links=_inside(project, options.find_links, "--find-links") if options.find_links else "",
        uv=options.uv,
        ignored=planner.checkout.read(IGNORE_FILE) or "",
    )


def _inside(project: Project, path: str, option: str) -> str:
    """``path`` relative to the project, whose folder is what the Containerfile is built in."""
    relative = posixpath.normpath(posixpath.relpath(path, project.folder) if path.startswith("/") else path)
    if relative == "." or relative.startswith("../") or relative == "..":
        raise DefinitionError(
            f"{option}: `{path}` is outside the project", hint="builders see the project's folder alone"
        )
    return relative


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="nox -s export-containerfile --")
    parser.add_argument("stage", metavar="STAGE")
    parser.add_argument("--output", default="Podmanfile", metavar="FILE", help="in the project; Podmanfile unless said")
    parser.add_argument(
        "--bytecode", action=argparse.BooleanOptionalAction, help="compile bytecode; as the project does unless said"
    )
    parser.add_argument("--link", action="store_true", help="COPY --link: BuildKit 0.10 or buildah 1.41, and later")
    parser.add_argument("--root", default="", metavar="IMAGE", help="start from this image, not from one made here")
    parser.add_argument("--find-links", default="", metavar="FOLDER", help="wheels come from here, not from an index")
    parser.add_argument("--uv", default="", metavar="IMAGE", help="install with /uv of this image, not with pip")
    return parser.parse_args(list(arguments))
