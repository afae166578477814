"""Compiles the Python files below a folder to bytecode, as they will lie below ``/``.

It is by hash, which Python trusts unread. Templates and files for other Pythons do not compile and stay as they are;
``compileall`` alone ends with 1 for those, for a full disk and for a dead worker alike. Runs on Python 3.9 to 3.14.
"""

import compileall
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode


def compile_folder(folder: str) -> None:
    """Exits with what is wrong where a source that compiles has no bytecode in the end."""
    mode = PycInvalidationMode.UNCHECKED_HASH
    options = {"quiet": 1, "workers": 0, "stripdir": folder, "prependdir": "/"}
    if not compileall.compile_dir(folder, invalidation_mode=mode, **options):  # type: ignore[arg-type]
        for source in find_uncompiled(Path(folder)):
            if compiles(source.read_bytes()):
                sys.exit(f"{source}: no bytecode came of it")


def find_uncompiled(folder: Path) -> Iterator[Path]:
    """The sources that have no bytecode."""
    for source in sorted(folder.rglob("*.py")):
        if "__pycache__" in source.parts or not source.is_file():
            continue
        if not Path(importlib.util.cache_from_source(str(source))).exists():
            yield source


def compiles(source: bytes) -> bool:
    """Whether it is this Python's."""
    try:
        compile(source, "source", "exec", dont_inherit=True)
    except Exception:  # noqa: BLE001 - whatever a template or a test's broken source makes of the compiler
        return False
    return True


if __name__ == "__main__":  # workers may import this file
    compile_folder(sys.argv[1])
