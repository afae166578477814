"""Export a stage as a plain Containerfile that builds without this project."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

from buildkit.build.planner import Planner
from buildkit.containerfile.builder import ContainerfileExport, ExportOptions, SideFile
from buildkit.containerfile.render import MARK, ignore_path, render_export
from buildkit.errors import DefinitionError
from buildkit.report.output_files import check_writable, write_text

DEFAULT_FILE = "Podmanfile"
_UNSAFE = re.compile(r"""[\s\x00-\x1f,$\\"'`*?\[\]#&;|<>()]""")


def make_export(planner: Planner, name: str, options: ExportOptions) -> ContainerfileExport:
    """Return the export of a stage; raises DefinitionError."""
    composer = planner.composer
    return render_export(composer.compose(name), lambda: composer.builder, planner.context.project, options)


def write_export(folder: Path, options: ExportOptions, export: ContainerfileExport) -> int:
    """Write an export to the folder of the project; return how many files changed.

    Files of an earlier export that this one lacks are removed. Raises DefinitionError if a foreign file would be
    replaced.
    """
    had_export = (folder / options.file).exists()
    for name in (options.file, ignore_path(options)):
        if (folder / name).exists() and not (folder / name).read_text("utf-8", errors="replace").startswith(MARK):
            raise DefinitionError(
                f"{name} is there already, and is not an export", hint="name another file by --output, or remove it"
            )
    files = (SideFile(path=options.file, text=export.text), *export.files)
    changed = sum(_write(folder / file.path, file.text) for file in files)
    if had_export:
        _remove_others(folder / options.folder, {folder / file.path for file in files})
    return changed


def _write(path: Path, text: str) -> bool:
    """Write a file unless it has this text already: builders look at modification times."""
    if path.is_file() and path.read_text("utf-8", errors="replace") == text:
        return False
    path.parent.mkdir(exist_ok=True)
    write_text(path, text)
    return True


def _remove_others(folder: Path, kept: Iterable[Path]) -> None:
    for path in sorted(set(folder.glob("*")).difference(kept)):
        if path.is_file():
            path.unlink()


def find_output(folder: Path, path: str) -> str:
    """Return the path of an export relative to the project in ``folder``; raises DefinitionError."""
    if path == "-":
        hint = f"name a file below {folder}, or leave --output away for {DEFAULT_FILE}"
        raise DefinitionError("--output: an export is several files, which cannot be printed", hint=hint)
    file = find_inside(folder, path, "--output", "file")
    options = ExportOptions(file=file)
    for name in (file, ignore_path(options)):
        if (folder / name).exists() and not (folder / name).is_file():
            hint = f"name a file, such as {name}/{DEFAULT_FILE}" if name == file else "name another file"
            raise DefinitionError(f"--output: `{name}` is not a file", hint=hint)
    side_folder = folder / options.folder
    if side_folder.exists() and not side_folder.is_dir():
        raise DefinitionError(f"--output: `{options.folder}` is not a folder", hint="name another file")
    check_writable(folder / file)
    return file


def find_links(folder: Path, path: str) -> str:
    """Return the folder of wheels relative to the project in ``folder``; raises DefinitionError if there is none."""
    relative = find_inside(folder, path, "--find-links", "folder")
    if not (folder / relative).is_dir():
        hint = f"name a folder of wheels below {folder}, or leave --find-links away for an index"
        raise DefinitionError(f"--find-links: there is no folder `{path}`", hint=hint)
    return relative


def find_inside(folder: Path, path: str, option: str, what: str) -> str:
    """Return ``path`` relative to the project; raises DefinitionError if it is outside, where builders see nothing."""
    relative = posixpath.normpath(posixpath.relpath(path, folder) if path.startswith("/") else path)
    hint = f"name a {what} below {folder}: builders see nothing else"
    if relative == ".":
        raise DefinitionError(f"{option}: `{path}` is the project's folder itself", hint=hint)
    if relative.split("/")[0] == "..":
        raise DefinitionError(f"{option}: `{path}` is outside the project", hint=hint)
    if unsafe := _UNSAFE.search(relative):
        message = f"{option}: `{relative}` has `{unsafe[0]}`, which a Containerfile or a shell would interpret"
        raise DefinitionError(message, hint="give it a plainer name")
    return relative
