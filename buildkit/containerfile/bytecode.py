"""Compiles the Python files below a folder to bytecode, with the paths that they will have below ``/``.

The bytecode is checked by hash, which Python does not verify. Templates and files for other Pythons do not compile and
are skipped; ``compileall`` alone exits with 1 for those, for a full disk and for a dead worker. Runs on Python 3.9 to
3.14.
"""

import compileall
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode


def compile_folder(folder: str) -> None:
    """Compile ``folder``. Exits with a message if a source that compiles has no bytecode in the end."""
    mode = PycInvalidationMode.UNCHECKED_HASH
    options = {"quiet": 1, "workers": 0, "stripdir": folder, "prependdir": "/"}
    if not compileall.compile_dir(folder, invalidation_mode=mode, **options):  # type: ignore[arg-type]
        for source in find_uncompiled(Path(folder)):
            if compiles(source.read_bytes()):
                sys.exit(f"{source}: could not write its bytecode")


def find_uncompiled(folder: Path) -> Iterator[Path]:
    """Yield the sources that have no bytecode."""
    for source in sorted(folder.rglob("*.py")):
        if "__pycache__" in source.parts or not source.is_file():
            continue
        if not Path(importlib.util.cache_from_source(str(source))).exists():
            yield source


def compiles(source: bytes) -> bool:
    """Whether the source is valid for this Python."""
    try:
        compile(source, "source", "exec", dont_inherit=True)
    except Exception:  # noqa: BLE001 - templates and broken test sources make the compiler raise anything
        return False
    return True


if __name__ == "__main__":  # workers may import this file
    compile_folder(sys.argv[1])
