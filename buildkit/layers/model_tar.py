"""Files in the tar of a model artifact or an image's layer. The tar is distrusted; nothing is written by its names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from buildkit.errors import BuildError
from buildkit.layers.tar.decompress import inflate
from buildkit.layers.tar.member import MAGIC_SIZE, Compression
from buildkit.layers.tar.reader import TarReader


def read_tar_files(blob: Path, what: str) -> Iterator[tuple[str, str, Iterator[bytes]]]:
    """Yield path, kind (``file``, ``symbolic link`` …) and content of each member of a tar but its folders.

    Paths are as written, without ``./`` before and a slash at either end. Raises BuildError for a damaged tar.
    """
    try:
        with blob.open("rb") as file:
            compression = Compression.detect(file.read(MAGIC_SIZE))
        reader = TarReader(inflate(blob, compression), what)
        for header in reader:
            kind = header.fields["type"]
            if kind == "folder":
                continue
            path = header.path.decode("utf-8", "surrogateescape").removeprefix("./").strip("/")
            yield path, kind, reader.content() if kind == "file" else iter(())
    except (ValueError, OSError) as error:
        raise BuildError(f"{what} cannot be unpacked: {error}") from error
