"""A root's Python as a folder: what compiles a library for a processor whose programs this machine cannot run.

Bytecode depends on the release of Python and not on the processor.
"""

from __future__ import annotations

import re
from pathlib import Path

from buildkit.build.context import BuildContext
from buildkit.layers.tar.member_path import find_path_problem
from buildkit.layers.tar.reader import TarReader
from buildkit.plan.spec import Spec

_FILES = re.compile(r"usr/bin/python3\.\d+|usr/lib/python3\.\d+/(?:[\w.+-]+/)*[\w+-][\w.+-]*\.(?:py|so)")
_LIBRARIES = re.compile(r"usr/lib/\w+-linux-gnu/[\w.+-]+\.so[\w.+-]*")


def lay_out_python(context: BuildContext, root: Spec, folder: Path) -> None:
    """Write the interpreter of a Debian root, its library and the libraries that it may need below ``folder``.

    Nothing else of the root's tar is written, nothing outside the folder, and no link but one to a name beside it.
    Raises BuildError for a damaged layer.
    """
    for blob in context.state.results[root.key].blobs:
        reader = TarReader(context.layers.open_tar(blob), root.name)
        for header in reader:
            path = header.path.decode("utf-8", "replace")
            if find_path_problem(path) or not (_FILES.fullmatch(path) or _LIBRARIES.fullmatch(path)):
                continue
            place, kind, link = folder / path, header.fields["type"], header.fields.get("link", "")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)  # a file that comes twice is not written through a link
            if kind == "file":
                _write(place, reader)
            elif kind == "symbolic link" and _LIBRARIES.fullmatch(path) and "/" not in link:
                place.symlink_to(link)


def _write(place: Path, reader: TarReader) -> None:
    with place.open("wb") as file:
        for chunk in reader.content():
            file.write(chunk)
    place.chmod(0o755)
