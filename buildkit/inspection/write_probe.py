"""Finds folders that a container's user can write; sent into the container as text, never imported by buildkit.

``python -I -c TEXT FOLDERS``, with FOLDERS a JSON list, prints a JSON list: those of these folders, of the module
search path and of the Python installation in which a file can be created. Each such file is removed at once.
"""

import json
import os
import sys


def is_writable(folder: str) -> bool:
    """Return whether a file can be created in the folder."""
    path = os.path.join(folder, ".buildkit-audit")  # noqa: PTH118 - starts faster than pathlib
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(path)  # noqa: PTH108
    except OSError:
        return False
    return True


def main() -> None:
    """Print the folders that are writable, each once."""
    modules = [path for path in sys.path if os.path.isdir(path)]  # noqa: PTH112
    folders = dict.fromkeys([*json.loads(sys.argv[1]), *modules, sys.prefix])
    sys.stdout.write(json.dumps([folder for folder in folders if is_writable(folder)]) + "\n")


if __name__ == "__main__":
    main()
