"""New layers become trees, blobs or both, in one pass; blobs that are needed later are made once, from the trees."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from buildkit.build.context import BuildContext
from buildkit.build.layer_writer import LayerWriter, write_observed
from buildkit.build.make_blobs import make_blobs
from buildkit.digest import Digest, Key
from buildkit.errors import DamagedError, MismatchError
from buildkit.events import Event, StepStarted
from buildkit.imagestore.image_store import ImageStore
from buildkit.layers.files import CopiedFile, file_members
from buildkit.layers.tar.member import Compression, Member, PackedLayer
from buildkit.layers.tar.writer import write_layer
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.spec import Kind, PackPrefix, Spec
from buildkit.remote.layer_stream import LayerStream
from tests.reflinks import sharing_blocks, used_bytes, wait_until_settled

WORDS = b"words " * 9999


@pytest.fixture
def stored(context: BuildContext, tmp_path: Path) -> BuildContext:
    """The context of a host that delivers into an image store."""
    store = ImageStore.open(tmp_path / "store")
    return replace(context, image_store=store, layers=replace(context.layers, trees=store))


def make_writer(context: BuildContext, *, compress: bool = True, trees: bool = True) -> LayerWriter:
    return LayerWriter(blobs=context.blobs, store=context.image_store if trees else None, compress=compress)


def pack(writer: LayerWriter, compression: Compression = Compression.ZSTD) -> PackedLayer:
    with writer.open(compression) as to:
        member = Member(path="etc/words", size=len(WORDS), content=lambda: iter((WORDS,)))
        return to.keep(write_layer([member], to.blob, to.compression, tee=to.tee))


def forms(context: BuildContext, packed: PackedLayer) -> tuple[bool, bool]:
    """Return whether the layer has a tree and whether it has a blob."""
    blob = Blob.of(packed)
    return context.layers.has_tree(blob), context.layers.has_blob(blob)


def test_without_an_image_store_there_is_a_blob(context: BuildContext) -> None:
    assert forms(context, pack(make_writer(context, compress=False))) == (False, True)


@pytest.mark.parametrize(
    ("compress", "trees", "made"),
    [
        (True, True, (True, True)),
        (False, True, (True, False)),
        (True, False, (False, True)),
        (False, False, (False, True)),
    ],
)
def test_forms_of_a_layer(stored: BuildContext, *, compress: bool, trees: bool, made: tuple[bool, bool]) -> None:
    assert forms(stored, pack(make_writer(stored, compress=compress, trees=trees))) == made


def test_both_forms_hold_the_same_layer(stored: BuildContext, tmp_path: Path) -> None:
    tree, both = (pack(make_writer(stored, compress=compress)) for compress in (False, True))
    assert tree.diff_id == both.diff_id
    assert (tree.size, tree.compression) == (tree.unpacked, Compression.ZSTD)
    from_tree = b"".join(stored.layers.open_tar(Blob.of(tree)))
    assert from_tree == b"".join(replace(stored.layers, trees=None).open_tar(Blob.of(both)))
    assert (tmp_path / "store/trees" / tree.diff_id.hex / "etc/words").read_bytes() == WORDS


class Stream:
    """A layer that goes up; the registry may name it as soon as it is accepted."""

    def __init__(self, out: BinaryIO, flushed: Callable[[Digest], bool]) -> None:
        self.write = out.write
        self.accepted: list[bool] = []
        self.accept = lambda digest: self.accepted.append(flushed(digest))


def test_registry_takes_a_blob_while_it_is_flushed_and_two_threads_compress_it(context: BuildContext) -> None:
    writer = make_writer(context)
    with writer.open(Compression.ZSTD) as to:
        assert to.threads == 1
        assert to.file is not None
        stream = Stream(to.file, lambda digest: context.blobs.path(digest).exists())
        streamed = replace(to, stream=cast("LayerStream", stream))
        assert streamed.threads == min(2, len(os.sched_getaffinity(0)))
        member = Member(path="etc/words", size=len(WORDS), content=lambda: iter((WORDS,)))
        packed = streamed.keep(write_layer([member], streamed.blob, to.compression, threads=streamed.threads))
    assert stream.accepted == [False]
    assert context.blobs.path(packed.digest).exists()


def test_output_that_is_not_kept_leaves_nothing(stored: BuildContext, tmp_path: Path) -> None:
    with make_writer(stored).open(Compression.ZSTD) as to:
        to.blob.write(b"x")
    for folder in ("store/trees", "store/tmp", "cache/sha256", "cache/tmp"):
        assert list((tmp_path / folder).iterdir()) == []


def record(context: BuildContext, packed: PackedLayer, name: str = "words") -> Spec:
    recipe = f'{{"name":"{name}"}}'
    spec = Spec(
        key=Key.of(recipe.encode()), recipe=recipe, kind=Kind.FILES, name=name, work=PackPrefix(), history="", weight=1
    )
    result = LayerResult(blobs=(Blob.of(packed),))
    context.ledger.add_layer(spec, result, packed.contents)
    context.ledger.natives.add(packed.digest, b"facts")
    context.state.learn({spec.key: result})
    return spec


def test_blob_is_made_once_and_is_that_of_packing(stored: BuildContext, events: list[Event]) -> None:
    spec = record(stored, pack(make_writer(stored, compress=False)))
    make_blobs(stored, [spec])
    (made,) = stored.state.results[spec.key].blobs
    assert made == Blob.of(pack(make_writer(stored, trees=False)))
    assert stored.ledger.layers.find([spec.key])[spec.key].blobs == (made,)
    assert stored.ledger.natives.find([made.digest]) == {made.digest: b"facts"}
    assert [path for path, _ in stored.ledger.layers.contents(spec.key) or ()] == ["etc/words"]
    assert [event.phase for event in events if isinstance(event, StepStarted)] == ["compress"]
    make_blobs(stored, [spec])
    assert len([event for event in events if isinstance(event, StepStarted)]) == 1


def test_blob_that_was_evicted_is_made_again(stored: BuildContext) -> None:
    packed = pack(make_writer(stored))
    spec = record(stored, packed)
    stored.blobs.path(packed.digest).unlink()
    make_blobs(stored, [spec])
    assert forms(stored, packed) == (True, True)


def test_layer_that_is_nowhere_is_left_alone(stored: BuildContext) -> None:
    packed = pack(make_writer(stored, trees=False))
    spec = record(stored, packed)
    stored.blobs.path(packed.digest).unlink()
    make_blobs(stored, [spec])
    assert forms(stored, packed) == (False, False)


def test_altered_tree_makes_no_blob(stored: BuildContext, tmp_path: Path) -> None:
    packed = pack(make_writer(stored, compress=False))
    spec = record(stored, packed)
    (tmp_path / "store/trees" / packed.diff_id.hex / "etc/words").write_bytes(WORDS[::-1])
    with pytest.raises(DamagedError):
        make_blobs(stored, [spec])
    assert list((tmp_path / "cache/sha256").iterdir()) == []
    assert not stored.ledger.layers.find([spec.key])[spec.key].blobs[0].is_made


@pytest.fixture
def shared(context: BuildContext, tmp_path: Path) -> Iterator[tuple[LayerWriter, Path]]:
    """A writer of trees, and a large file on a file system where the two can share blocks."""
    with sharing_blocks(tmp_path) as place:
        weights, store = place / "weights", ImageStore.open(place / "store")
        weights.write_bytes(os.urandom(8 << 20))
        wait_until_settled(weights)
        yield LayerWriter(blobs=context.blobs, store=store, compress=False), weights


def pack_file(writer: LayerWriter, path: Path, progress: Callable[[int], None] = lambda _done: None) -> PackedLayer:
    members = file_members(path.parent, [CopiedFile(path.name, executable=True)], "/models")
    with writer.open(Compression.NONE) as to:
        return write_observed(members, to, progress)[0]


def test_tree_shares_the_blocks_of_a_large_file(shared: tuple[LayerWriter, Path], tmp_path: Path) -> None:
    writer, weights = shared
    before = used_bytes(weights.parent)
    packed = pack_file(writer, weights)
    assert used_bytes(weights.parent) - before < 1 << 20
    assert writer.store is not None
    assert writer.store.find_alteration(packed.diff_id) == ""
    elsewhere = replace(writer, store=ImageStore.open(tmp_path / "store"))
    assert pack_file(elsewhere, weights) == packed
    (tree,), (other,) = ([*one.glob("store/trees/*/models/weights")] for one in (weights.parent, tmp_path))
    assert tree.read_bytes() == other.read_bytes() == weights.read_bytes()
    stats = tree.stat(), other.stat()
    assert len({(stat.st_mode, stat.st_uid, stat.st_mtime_ns, stat.st_nlink) for stat in stats}) == 1
    weights.write_bytes(b"other")
    assert tree.read_bytes() == other.read_bytes()


def test_large_file_that_changes_behind_the_reader_is_not_kept(shared: tuple[LayerWriter, Path]) -> None:
    writer, weights = shared

    def change_the_beginning(done: int) -> None:
        if done:
            with weights.open("r+b") as file:
                file.write(b"other")

    with pytest.raises(MismatchError, match="weights has changed since the build began"):
        pack_file(writer, weights, change_the_beginning)
    assert [*weights.parent.glob("store/trees/*"), *weights.parent.glob("store/tmp/*")] == []
