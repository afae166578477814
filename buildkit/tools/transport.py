"""Images out of wherever skopeo reads them (local storage, layouts, archives), as a ``dir:`` layout."""

from __future__ import annotations

from pathlib import Path

from buildkit.tools.process import Command, run
from buildkit.tools.skopeo import skopeo_argv

TRANSPORTS = ("containers-storage", "oci", "oci-archive", "docker-archive", "dir")
"""Those that name an image on this host."""


def copy_to_dir(source: str, folder: Path) -> None:
    """Copy an image (``oci:PATH[:TAG]``) to a ``dir:`` layout; its layers' files are named by their digests' digits.

    skopeo verifies what it reads. Raises ToolError for what is not there, or no image.
    """
    argv = (*skopeo_argv(temporary=folder), "copy", "--quiet", source, f"dir:{folder}")
    run(Command(argv=argv, what=f"reading {source}", writes=(folder,)))
