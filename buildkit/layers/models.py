"""The files of a locked model as members of a layer, and whether it pays to compress them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
_WORTH = 0.9  # content that shrinks below this share is cheaper to store compressed


def model_members(
    model: Model,
    open_file: OpenFile,
    target_dir: str,
    place: Callable[[ModelFile], str] = lambda file: file.path,
    find_file: Callable[[ModelFile], Path | None] = lambda _file: None,
) -> Iterator[Member]:
    """Yield the files of ``model`` at their ``place`` below ``target_dir`` (absolute in the image), sorted by path.

    ``open_file`` returns a file's content in chunks, ``find_file`` where it is on disk, None for a member of a wheel.
    Packing verifies size and SHA-256 (MismatchError): those of the lock, or for a file of the repository those at the
    start of the build.
    """
    own = isinstance(model.source, RepoSource)
    folder = target_dir.strip("/")
    for file in sorted(model.files, key=place):
        yield Member(
            path=f"{folder}/{place(file)}",
            size=file.size,
            content=partial(open_file, file),
            sha256=file.sha256,
            source=file.source if own else "",
            original=find_file(file),
        )


def snapshot_members(folder: str, links: Mapping[str, str], refs: Mapping[str, str]) -> Iterator[Member]:
    """Yield links, by path below ``folder``, and files with a commit, of a cache of a model hub."""
    for path, target in links.items():
        yield Member(path=f"{folder.strip('/')}/{path}", kind="symlink", target=target)
    for path, commit in refs.items():
        data = commit.encode()
        yield Member(path=f"{folder.strip('/')}/{path}", size=len(data), content=partial(iter, (data,)))


def open_from_wheel(wheel: Path) -> OpenFile:
    """Open files of a ``pypi:`` model, whose ``source`` is a member of ``wheel``; raises WheelError."""
    from buildkit.layers.wheel.archive import WheelZip  # slow to load: only builds that pack a layer need it

    archive = WheelZip(wheel)

    def open_member(file: ModelFile) -> Iterator[bytes]:
        if file.source not in archive.files:
            raise archive.refuse("is missing, though the models lock names it", file.source)
        return archive.stream(file.source)

    return open_member


def open_from_paths(find: Callable[[ModelFile], Path]) -> OpenFile:
    """Open files of a model that are on disk, at the paths that ``find`` returns."""
    return lambda file: read_file(find(file))


def worth_compressing(read_at: ReadAt, size: int) -> bool:
    """Tell whether ``size`` bytes shrink by more than a tenth, judged by samples spread evenly over the content.

    ``read_at(offset, length)`` is called with rising offsets, so that a stream can serve it (`forward_reader`). The
    answer depends on the content alone, so every host decides alike. At most 1 MiB is read.
    """
    import zstandard  # slow to load: only builds that pack a layer need it

    compressor = zstandard.ZstdCompressor(level=1)
    seen = packed = 0
    step = max(_SAMPLE, size // _SAMPLES)
    for offset in range(0, size, step):
        sample = read_at(offset, min(_SAMPLE, size - offset))
        seen += len(sample)
        packed += len(compressor.compress(sample))
    return packed < _WORTH * seen


def forward_reader(chunks: Iterator[bytes]) -> ReadAt:
    """Return ``read_at`` over a stream; offsets may only rise."""
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
