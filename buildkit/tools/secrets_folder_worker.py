"""Looks for ``/run/secrets`` in a mounted working container, or removes it: ``CONTAINER look|tidy``.

Sent as text to an interpreter that may be inside ``buildah unshare`` (``python -I -c``), so it imports nothing of
buildkit. ``/run`` of a root may be a link that leads out of it, so no link is followed.
"""

from __future__ import annotations

import os
import subprocess
import sys

FOUND = 3
"""Exit code of ``look`` where the folder exists."""


def main(container: str, action: str) -> None:
    """Mount the container, look or tidy, and unmount it. Exits with a message for a root without a folder ``/run``."""
    mounted = subprocess.run(("buildah", "mount", "--", container), stdout=subprocess.PIPE, check=True).stdout
    try:
        root = os.open(os.fsdecode(mounted).rstrip("\n"), os.O_RDONLY | os.O_DIRECTORY)
        try:
            folder = os.open("run", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
        except OSError as error:
            sys.exit(f"this root has no folder /run: {error.strerror}")
        if action == "tidy":
            os.rmdir("secrets", dir_fd=folder)
        elif "secrets" in os.listdir(folder):  # noqa: PTH208 - a descriptor, not a path
            sys.exit(FOUND)
    finally:
        subprocess.run(("buildah", "umount", "--", container), stdout=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
