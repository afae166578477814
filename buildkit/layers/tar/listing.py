"""Read the paths of a stored layer and their contents from its blob."""

from __future__ import annotations

import hashlib
from pathlib import Path

from buildkit.errors import BuildError
from buildkit.layers.tar.decompress import inflate
from buildkit.layers.tar.member import Compression
from buildkit.layers.tar.reader import TarReader


def read_listing(path: Path, compression: Compression) -> list[tuple[str, str]]:
    """Return files with their SHA-256 and links (``-> TARGET``), sorted, as packing lists them; folders are not owned.

    Raises BuildError for a damaged blob.
    """
    found: dict[str, str] = {}
    try:
        reader = TarReader(inflate(path, compression), f"the layer {path.name}")
        for member in reader:
            kind, name = member.fields["type"], member.path.decode("utf-8", "replace")
            if kind == "symbolic link":
                found[name] = f"-> {member.fields['link']}"
            elif kind != "folder":
                hasher = hashlib.sha256()
                for chunk in reader.content():
                    hasher.update(chunk)
                found[name] = hasher.hexdigest()
    except ValueError as error:
        raise BuildError(f"the layer {path.name} cannot be read: {error}") from error
    return sorted(found.items())
