"""``nox -s export-containerfile``: a stage as a plain Containerfile that builds without this project."""

from __future__ import annotations

import argparse
import posixpath
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from buildkit.build.disk_checkout import IGNORE_FILE
from buildkit.build.planner import Planner, check_stage, open_planner
from buildkit.cli.main import check_writable, write_text
from buildkit.cli.options import Parser
from buildkit.containerfile.parts import Export, ExportOptions, SideFile
from buildkit.containerfile.render import MARK, ignore_path, render_export
from buildkit.errors import DefinitionError
from buildkit.report.view import open_view

_FILE = "Podmanfile"
_UNSAID = re.compile(r"""[\s\x00-\x1f,$\\"'`*?\[\]#&;|<>()]""")


def export(folder: Path, arguments: Sequence[str]) -> None:
    """Write the Containerfile of a stage, and the files that it needs; raises DefinitionError or BuildError."""
    options = _parse(arguments)
    with open_view(sys.stderr) as emit, open_planner(folder, emit) as planner:
        name = check_stage(planner.graph, options.stage)
        chosen = _choose(options, planner)
        made = make_export(planner, name, chosen)
    written = write_export(folder, chosen, made)
    sys.stderr.write(f"{chosen.file}: {name}, with {len(made.files)} files beside it; {written} changed\n")


def make_export(planner: Planner, name: str, options: ExportOptions) -> Export:
    """The export of a stage; raises DefinitionError."""
    composer = planner.composer
    return render_export(composer.compose(name), lambda: composer.builder, planner.context.project, options)


def write_export(folder: Path, options: ExportOptions, made: Export) -> int:
    """Bring an export to the project's folder; returns how many files are not what they were.

    What an earlier export left and this one lacks is removed. Raises DefinitionError where a file of somebody
    else would be replaced.
    """
    known = (folder / options.file).exists()
    for name in (options.file, ignore_path(options)):
        if (folder / name).exists() and not (folder / name).read_text("utf-8", errors="replace").startswith(MARK):
            raise DefinitionError(
                f"{name} is there already, and is no export", hint="name another file by --output, or remove it"
            )
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
    write_text(path, text)
    return True


def _remove_others(folder: Path, kept: Iterable[Path]) -> None:
    for path in sorted(set(folder.glob("*")).difference(kept)):
        if path.is_file():
            path.unlink()


def _choose(options: argparse.Namespace, planner: Planner) -> ExportOptions:
    project = planner.context.project
    bytecode = project.bytecode if options.bytecode is None else options.bytecode
    return ExportOptions(
        file=find_output(project.folder, options.output),
        bytecode=bytecode,
        link=options.link,
        root=options.root,
        find_links=find_links(project.folder, options.find_links) if options.find_links is not None else "",
        uv=options.uv,
        ignored=planner.checkout.read(IGNORE_FILE) or "",
    )


def find_output(folder: Path, path: str) -> str:
    """Where an export goes, relative to the project in ``folder``; raises DefinitionError where it cannot."""
    if path == "-":
        hint = f"name a file below {folder}, or leave --output away for {_FILE}"
        raise DefinitionError("--output: an export is several files, which cannot be printed", hint=hint)
    file = find_inside(folder, path, "--output", "file")
    options = ExportOptions(file=file)
    for name in (file, ignore_path(options)):
        if (folder / name).exists() and not (folder / name).is_file():
            hint = f"name a file, such as {name}/{_FILE}" if name == file else "name another file"
            raise DefinitionError(f"--output: `{name}` is no file", hint=hint)
    run_concurrently = folder / options.folder
    if run_concurrently.exists() and not run_concurrently.is_dir():
        raise DefinitionError(f"--output: `{options.folder}` is no folder", hint="name another file")
    check_writable(folder / file)
    return file


def find_links(folder: Path, path: str) -> str:
    """The folder of wheels, relative to the project in ``folder``; raises DefinitionError where none is there."""
    found = find_inside(folder, path, "--find-links", "folder")
    if not (folder / found).is_dir():
        hint = f"name a folder of wheels below {folder}, or leave --find-links away for an index"
        raise DefinitionError(f"--find-links: there is no folder `{path}`", hint=hint)
    return found


def find_inside(folder: Path, path: str, option: str, what: str) -> str:
    """``path`` relative to the project, whose ``folder`` is all that builders see of it; raises DefinitionError."""
    relative = posixpath.normpath(posixpath.relpath(path, folder) if path.startswith("/") else path)
    hint = f"name a {what} below {folder}: builders see nothing else"
    if relative == ".":
        raise DefinitionError(f"{option}: `{path}` is the project's folder itself", hint=hint)
    if relative.split("/")[0] == "..":
        raise DefinitionError(f"{option}: `{path}` is outside the project", hint=hint)
    if found := _UNSAID.search(relative):
        said = f"{option}: `{relative}` holds `{found[0]}`, which a Containerfile or a shell would not take as it is"
        raise DefinitionError(said, hint="give it a plainer name")
    return relative


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="nox -s export-containerfile --")
    parser.add_argument("stage", metavar="STAGE")
    parser.add_argument("--output", default=_FILE, metavar="FILE", help=f"in the project; {_FILE} unless said")
    parser.add_argument(
        "--bytecode", action=argparse.BooleanOptionalAction, help="compile bytecode; as the project does unless said"
    )
    parser.add_argument("--link", action="store_true", help="COPY --link: BuildKit 0.10 or buildah 1.41, and later")
    parser.add_argument("--root", default="", metavar="IMAGE", help="start from this image, not from one made here")
    parser.add_argument("--find-links", metavar="FOLDER", help="wheels come from here, not from an index")
    parser.add_argument("--uv", default="", metavar="IMAGE", help="install with /uv of this image, not with pip")
    return parser.parse_args(list(arguments))
