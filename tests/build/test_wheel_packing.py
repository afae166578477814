"""Layers of wheels that processes pack: the same layers, the same refusals, and nothing that stays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.build.build_layers import MIN_PACKED_APART, count_packers
from buildkit.build.context import BuildContext
from buildkit.build.wheel_gate import WheelGate
from buildkit.build.wheel_packing import WheelPacking, pack_apart, pack_wheels
from buildkit.digest import FileHash, Key
from buildkit.errors import CollisionError, Interrupted, WheelError
from buildkit.imagestore.image_store import ImageStore
from buildkit.layers.tar import blob_stream
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob
from buildkit.plan.spec import Kind, PackPrefix, PackWheels, Spec
from buildkit.tools.forked_workers import ForkedWorkers
from tests.layers.wheelmaker import METADATA, make_wheel


def ignore(_done: int) -> None:
    return


def add_wheel(context: BuildContext, folder: Path, name: str, files: dict[str, bytes]) -> Path:
    """Put a wheel into the cache, and return its path there."""
    made = make_wheel(folder, files, name=name, METADATA=METADATA.replace("demo-pkg", name))
    place = context.blobs.file_path(FileHash(hashlib.sha256(made.read_bytes()).hexdigest()), made.name)
    made.rename(place)
    return place


@pytest.fixture
def stored(context: BuildContext, tmp_path: Path) -> BuildContext:
    store = ImageStore.open(tmp_path / "store")
    return replace(context, image_store=store, layers=replace(context.layers, trees=store))


@pytest.fixture
def packing(stored: BuildContext, tmp_path: Path) -> Callable[..., WheelPacking]:
    """Return how wheels of some files are packed into cache and store."""

    def make(*wheels: dict[str, bytes], compress: bool = True) -> WheelPacking:
        paths = [add_wheel(stored, tmp_path / "made", f"demo{n}", files) for n, files in enumerate(wheels)]
        return WheelPacking(
            wheels=tuple(paths),
            target=stored.project.target,
            compression=Compression.ZSTD,
            cache=stored.blobs.folder,
            store=tmp_path / "store",
            compress=compress,
        )

    return make


@pytest.fixture
def workers() -> Iterator[ForkedWorkers]:
    with ForkedWorkers(2) as forked:
        yield forked


def leftovers(tmp_path: Path) -> list[str]:
    return [path.name for folder in ("cache/tmp", "store/tmp") for path in (tmp_path / folder).iterdir()]


@pytest.mark.parametrize("compress", [True, False])
def test_layer_is_the_one_that_threads_pack(
    packing: Callable[..., WheelPacking], stored: BuildContext, workers: ForkedWorkers, *, compress: bool
) -> None:
    asked = packing({"demo/a.py": b"A = 1\n"}, {"other/b.py": b"B = 2\n" * 9999}, compress=compress)
    apart, facts = workers.run(pack_wheels, ignore, asked)
    assert stored.layers.has_tree(Blob.of(apart))
    assert stored.layers.has_blob(Blob.of(apart)) is compress
    here = pack_wheels(ignore, asked)
    assert (replace(apart, busy=0.0), facts) == (replace(here[0], busy=0.0), here[1])


def test_refused_layer_leaves_nothing(
    packing: Callable[..., WheelPacking], workers: ForkedWorkers, tmp_path: Path
) -> None:
    with pytest.raises(CollisionError, match=r"demo/a\.py belongs to demo0.* and demo1"):
        workers.run(pack_wheels, ignore, packing({"demo/a.py": b"A = 1\n"}, {"demo/a.py": b"A = 2\n"}))
    assert not list((tmp_path / "store/trees").iterdir())
    assert leftovers(tmp_path) == []


def test_stop_leaves_nothing(packing: Callable[..., WheelPacking], tmp_path: Path) -> None:
    asked = packing({f"demo/{n}.bin": os.urandom(1 << 20) for n in range(8)})

    def stop(_done: int) -> None:
        raise Interrupted("interrupted")

    with pytest.raises(Interrupted), ForkedWorkers(1) as forked:
        forked.run(pack_wheels, stop, asked)
    assert not list((tmp_path / "store/trees").iterdir())
    assert leftovers(tmp_path) == []


def test_large_layer_waits_for_its_turn(packing: Callable[..., WheelPacking], workers: ForkedWorkers) -> None:
    asked = packing({"demo/a.py": b"A = 1\n"})

    def give_up(_done: int) -> None:
        raise Interrupted("interrupted")

    with ExitStack() as turns:
        for _ in range(blob_stream.LARGE_AT_ONCE):
            turns.enter_context(blob_stream.turn_of_large(lambda: None))
        with pytest.raises(Interrupted):
            pack_apart(workers, asked, blob_stream.LARGE + 1, give_up)
        pack_apart(workers, asked, blob_stream.LARGE, ignore)
        pack_apart(workers, replace(asked, compress=False), blob_stream.LARGE + 1, ignore)
    pack_apart(workers, asked, blob_stream.LARGE + 1, ignore)


def test_wheels_are_scanned_there_and_judged_here(
    packing: Callable[..., WheelPacking], stored: BuildContext, workers: ForkedWorkers
) -> None:
    gate = WheelGate(stored, workers.run)
    (wheel,) = packing({"demo.pth": b"import demo\n"}).wheels
    with pytest.raises(WheelError, match="wheel-startup-code"):
        gate.check([wheel])
    wheel.write_bytes(b"")  # its verdict is known now, so nobody reads it again
    with pytest.raises(WheelError, match="wheel-startup-code"):
        gate.check([wheel])


def test_processes_pack_where_that_pays() -> None:
    def spec(weight: int, work: PackWheels | PackPrefix) -> Spec:
        key = Key.of(os.urandom(8))
        return Spec(name="x", kind=Kind.WHEELS, recipe="{}", key=key, work=work, history="", weight=weight)

    wheels = PackWheels(wheels=())
    heavy = spec(MIN_PACKED_APART, wheels)
    assert count_packers([heavy, heavy, heavy], 2) == 2
    assert count_packers([heavy, heavy, heavy], 1) == 0
    assert count_packers([heavy, spec(0, PackPrefix())], 2) == 0  # one layer of wheels
    assert count_packers([spec(1 << 20, wheels)] * 9, 2) == 0  # small ones
