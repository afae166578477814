"""A locked model's files → members, and whether compressing them pays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from buildkit.layers.files import read_file
from buildkit.layers.tar.member import Member
from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import Model, ModelFile

OpenFile = Callable[[ModelFile], Iterator[bytes]]
ReadAt = Callable[[int, int], bytes]

_SAMPLES = 16
_SAMPLE = 64 << 10
_WORTH = 0.9  # below this share of its size, content is cheaper to store compressed than to move as it is


def model_members(model: Model, open_file: OpenFile, target_dir: str) -> Iterator[Member]:
    """The files of ``model``, sorted by path, below ``target_dir`` (absolute in the image).

    ``open_file`` gives a file's content in chunks; size and SHA-256 are verified as it is packed (MismatchError):
    those of the lock, or, of a file of the repository's own, those that it had when the build began.
    """
    own = isinstance(model.source, RepoSource)
    folder = target_dir.strip("/")
    for file in sorted(model.files, key=lambda file: file.path):
        yield Member(
            path=f"{folder}/{file.path}",
            size=file.size,
            content=partial(open_file, file),
            sha256=file.sha256,
            source=file.source if own else "",
        )


def open_from_wheel(wheel: Path) -> OpenFile:
    """Content of a ``pypi:`` model: ``source`` of each file is a member of ``wheel``; raises WheelError."""
    from buildkit.layers.wheel.archive import WheelZip  # heavy: only where something is packed

    archive = WheelZip(wheel)

    def open_member(file: ModelFile) -> Iterator[bytes]:
        if file.source not in archive.files:
            raise archive.refuse("is missing, though the models lock names it", file.source)
        return archive.stream(file.source)

    return open_member


def open_from_paths(find: Callable[[ModelFile], Path]) -> OpenFile:
    """Content of a model whose files lie on disk, where ``find`` says."""
    return lambda file: read_file(find(file))


def worth_compressing(read_at: ReadAt, size: int) -> bool:
    """Whether ``size`` bytes shrink by more than a tenth, judged from samples spread evenly over the content.

    ``read_at(offset, length)`` is called with rising offsets, so a stream can serve it (`forward_reader`). The
    answer depends on the content alone: every host decides the same. At most 1 MiB is read.
    """
    import zstandard  # a build that packs nothing must not pay for it

    compressor = zstandard.ZstdCompressor(level=1)
    seen = packed = 0
    step = max(_SAMPLE, size // _SAMPLES)
    for offset in range(0, size, step):
        sample = read_at(offset, min(_SAMPLE, size - offset))
        seen += len(sample)
        packed += len(compressor.compress(sample))
    return packed < _WORTH * seen


def forward_reader(chunks: Iterator[bytes]) -> ReadAt:
    """``read_at`` over a stream: offsets may only rise."""
    buffer = bytearray()
    start = 0

    def read_at(offset: int, length: int) -> bytes:
        nonlocal start
        while start + len(buffer) < offset + length and (chunk := next(chunks, b"")):
            buffer.extend(chunk)
            passed = min(offset - start, len(buffer))
            del buffer[:passed]
            start += passed
        skip = offset - start
        return bytes(buffer[skip : skip + length])

    return read_at
