"""Lets an interpreter run this folder, wherever it is mounted, without putting the folder on the module search path."""

import importlib
import importlib.util
import sys
from pathlib import Path

PACKAGE = "buildkit_reload"


def load_package() -> None:
    """Import the folder as a package whose name no application uses."""
    folder = Path(__file__).resolve().parent
    if sys.path and Path(sys.path[0] or ".").resolve() == folder:
        del sys.path[0]  # else the application would find our modules
    spec = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        sys.exit(f"error: {folder} is not the reloader's folder")
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the mount belongs to the host
    try:
        spec.loader.exec_module(package)
        main = importlib.import_module(f"{PACKAGE}.main").main
    finally:
        sys.dont_write_bytecode = written
    sys.exit(main(sys.argv[1:], folder))


if __name__ == "__main__":
    load_package()
