"""Roots that are unpacked while a real registry sends them: the same results and errors as from complete files."""

from __future__ import annotations

import errno
import gzip
import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from buildkit.build.root_contents import RootContents
from buildkit.digest import DiffId, Digest
from buildkit.errors import BuildError, BuildkitError, Interrupted, MismatchError, RegistryError
from buildkit.imagestore.image_store import ImageStore
from buildkit.layers.tar.contents import Listing
from buildkit.locks.pins import PinnedImage
from buildkit.oci.blob import LayerResult
from buildkit.oci.reference import parse_ref
from buildkit.remote.image_pull import LayerReaders, pull_image
from buildkit.store.blobs import Blobs
from buildkit.store.layer_bytes import TreeOutput
from buildkit.store.ledger import Ledger
from buildkit.tools.arriving_files import ArrivingFiles
from buildkit.tools.distribution.blob_fetch import BlobFetch
from buildkit.tools.distribution.connections import Operation
from buildkit.tools.distribution.left_to_skopeo import LeftToSkopeo
from buildkit.tools.registry import CLIENT, RegistryClient
from buildkit.tools.skopeo import write_layout
from tests.faultyproxy import Fault
from tests.imagestore.tars import entry, make_tar
from tests.native.elfmaker import make_elf
from tests.registryplace import MANIFEST, QUICK, Place, registries
from tests.waiting import wait_until

pytestmark = [pytest.mark.tools, pytest.mark.usefixtures("home")]

MIB = 1 << 20
PACK: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": lambda tar: gzip.compress(tar, 1, mtime=0),
    "zstd": zstandard.ZstdCompressor().compress,
}


class Image:
    """An image in the registry: a first layer of four mebibytes, and small ones above it."""

    def __init__(self, place: Place, folder: Path, packs: Sequence[str], wrong: DiffId | None = None) -> None:
        chance = random.Random(random.randrange(1 << 40))
        library = make_elf(soname="libx.so.1", needed=("libc.so.6",))
        tars = [make_tar(entry("etc/first", b"1"), entry("usr/lib/libx.so.1", library + chance.randbytes(4 * MIB)))]
        tars += [make_tar(entry(f"etc/layer{n}", chance.randbytes(5000))) for n in range(1, len(packs))]
        self.layers = [PACK[kind](tar) for kind, tar in zip(packs, tars, strict=True)]
        self.diff_ids = [DiffId.of(tar) for tar in tars]
        known = [wrong, *self.diff_ids[1:]] if wrong else self.diff_ids
        rootfs = {"type": "layers", "diff_ids": list(map(str, known))}
        config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode()
        parts = [("config.v1+json", config), *(("layer.v1.tar", layer) for layer in self.layers)]
        described = [
            {"mediaType": f"application/vnd.oci.image.{kind}", "size": len(data), "digest": str(Digest.of(data))}
            for kind, data in parts
        ]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
        folder.mkdir()
        for layer in self.layers:
            (folder / Digest.of(layer).hex).write_bytes(layer)
        write_layout(folder, json.dumps(manifest).encode(), config)
        registries().push(folder, place.ref())
        self.ref = str(place.ref(f"some/name@{Digest.of(json.dumps(manifest).encode())}"))
        self.first = f"/blobs/{described[1]['digest']}"
        place.proxy.clear()


class Host:
    """What a build has on its host; ``fails`` says of which trees, by number, no byte can be written."""

    def __init__(self, folder: Path, fails: Sequence[int] = ()) -> None:
        self.store, self.blobs = ImageStore.open(folder / "store"), Blobs(folder / "cache")
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.trees = 0
        self._fails = fails

    @contextmanager
    def open_tree(self) -> Iterator[TreeOutput]:
        self.trees += 1
        with self.store.writing_tree(foreign_owners=True) as tree:
            yield Full(tree) if self.trees in self._fails else tree

    def pull(
        self, image: Image, *, early: bool = True, client: RegistryClient | None = None
    ) -> tuple[LayerResult, Listing | None]:
        """Pull an image; unless ``early`` only after all of it has come."""
        used, contents = client or registries(), RootContents()

        def fetch(ref: str, folder: Path, arch: str, arriving: ArrivingFiles) -> None:
            used.fetch(parse_ref(ref, "it"), folder, arch=arch, arriving=arriving if early else None)

        pinned, readers = (
            PinnedImage(ref=image.ref, pinned=image.ref),
            LayerReaders(tree=self.open_tree, read=contents.read),
        )
        result = pull_image(pinned, "amd64", fetch, self.blobs, readers)
        return result, contents.keep(self.ledger, [blob.digest for blob in result.blobs])

    def state(self, image: Image) -> object:
        """Everything that a pull leaves."""
        tars = [b"".join(self.store.open_tar(one)) for one in image.diff_ids if self.store.has_tree(one)]
        cached = {path.name: path.read_bytes() for path in (self.blobs.folder / "sha256").iterdir()}
        return tars, cached, self.ledger.natives.find(map(Digest.of, image.layers)), self.rest()

    def rest(self) -> list[Path]:
        return [path for folder in (self.blobs.folder, self.store.folder) for path in (folder / "tmp").iterdir()]


class Full:
    """A tree on a disk that is full."""

    def __init__(self, tree: TreeOutput) -> None:
        self.keep = tree.keep

    def take(self, _pieces: object, /) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def other(tmp_path: Path) -> Host:
    return Host(tmp_path / "other")


@pytest.fixture
def image(place: Place, tmp_path: Path) -> Image:
    return Image(place, tmp_path / "image", ("zstd", "gzip"))


@contextmanager
def pulling(host: Host, image: Image, client: RegistryClient | None = None) -> Iterator[Future[object]]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(host.pull, image, client=client)


def wait_until_begun(host: Host, pull: Future[object]) -> None:
    """Wait until a file of a tree is there that has no name yet."""
    wait_until(lambda: any((host.store.folder / "tmp").rglob("etc/first")) or pull.done())
    assert not pull.done(), pull.result()


def same(host: Host, other: Host, image: Image, pulled: object) -> None:
    """The result, and what is on the host, are those of a pull of complete files."""
    assert pulled == other.pull(image, early=False)
    assert host.state(image) == other.state(image)
    assert host.rest() == []


def refused(host: Host, other: Host, image: Image, kind: type[BuildkitError]) -> str:
    """What a pull says that fails, which is what one of complete files says; nothing is left of the first layer."""
    said = []
    for one, early in ((host, True), (other, False)):
        with pytest.raises(kind) as caught:
            one.pull(image, early=early)
        said.append(caught.value.message.replace(str(one.store.folder), "").replace(str(one.blobs.folder), ""))
        assert not one.store.has_tree(image.diff_ids[0])
        assert not one.blobs.path(Digest.of(image.layers[0])).exists()
        assert one.rest() == []
    assert said[0] == said[1]
    return said[0]


@pytest.mark.parametrize(
    "packs", [("plain",), ("gzip",), ("zstd",), ("gzip", "zstd", "plain", "gzip", "zstd", "plain")], ids="-".join
)
def test_results_are_those_of_complete_files(
    place: Place, tmp_path: Path, host: Host, other: Host, packs: Sequence[str]
) -> None:
    image = Image(place, tmp_path / "image", packs)
    pulled = host.pull(image)
    assert host.trees == len(packs)  # each was written once
    assert place.proxy.count("GET", "/blobs/") == len(packs) + 1
    same(host, other, image, pulled)
    assert pulled[1] is not None


@pytest.mark.parametrize("kind", PACK)
def test_unpacking_begins_before_all_has_come(place: Place, tmp_path: Path, host: Host, other: Host, kind: str) -> None:
    """The registry keeps the end back until a file of the tree is there."""
    image, held = Image(place, tmp_path / "image", (kind, kind)), Fault(hold_down=3 * MIB)
    place.proxy.fault("GET", image.first, held, times=1)
    with pulling(host, image) as pull:
        wait_until_begun(host, pull)
        assert not host.store.has_tree(image.diff_ids[0])
        assert list((host.blobs.folder / "sha256").iterdir()) == []
        held.released.set()
        pulled = pull.result()
    assert host.trees == 2
    same(host, other, image, pulled)


def test_lowest_layer_is_unpacked_while_others_come(place: Place, tmp_path: Path, host: Host, other: Host) -> None:
    image, held = Image(place, tmp_path / "image", ("gzip", "gzip")), Fault(hold_down=0)
    place.proxy.fault("GET", f"/blobs/{Digest.of(image.layers[1])}", held, times=1)
    with pulling(host, image) as pull:
        wait_until(lambda: host.store.has_tree(image.diff_ids[0]) or pull.done())
        held.released.set()
        same(host, other, image, pull.result())


def test_layer_that_is_cut_and_resumed_is_read_on(place: Place, host: Host, other: Host, image: Image) -> None:
    held = Fault(hold_down=2 * MIB, cut_down=3 * MIB)
    place.proxy.fault("GET", image.first, held, times=1)
    with pulling(host, image) as pull:
        wait_until_begun(host, pull)
        held.released.set()
        pulled = pull.result()
    assert host.trees == 2  # none was begun anew
    same(host, other, image, pulled)


def test_layer_that_begins_anew_is_read_anew(place: Place, host: Host, other: Host, image: Image) -> None:
    """What came first even had another byte."""
    held = Fault(hold_down=2 * MIB, cut_down=3 * MIB, flip=MIB)
    place.proxy.fault("GET", image.first, held, times=1)
    place.proxy.fault("GET", image.first, Fault(status=200, body=image.layers[0], headers={}), times=1)
    with pulling(host, image) as pull:
        wait_until_begun(host, pull)
        held.released.set()
        pulled = pull.result()
    assert host.trees == 3
    same(host, other, image, pulled)


@pytest.mark.parametrize("kind", PACK)
def test_wrong_bytes_are_refused(place: Place, tmp_path: Path, host: Host, other: Host, kind: str) -> None:
    image = Image(place, tmp_path / "image", (kind,))
    place.proxy.fault("GET", image.first, Fault(flip=len(image.layers[0]) - 1))  # which no tree depends on
    assert "Digest did not match" in refused(host, other, image, RegistryError)


def test_layer_with_another_diff_id_is_refused(place: Place, tmp_path: Path, host: Host, other: Host) -> None:
    image = Image(place, tmp_path / "image", ("gzip", "zstd"), wrong=DiffId("1" * 64))
    assert "unpacks to other bytes than its image says" in refused(host, other, image, MismatchError)


def test_stop_in_the_middle_leaves_nothing(place: Place, host: Host, image: Image) -> None:
    stop, before = threading.Event(), set(threading.enumerate())
    place.proxy.fault("GET", image.first, Fault(hold_down=2 * MIB))
    with pulling(host, image, RegistryClient(stop, QUICK)) as pull:
        wait_until_begun(host, pull)
        stop.set()
        with pytest.raises(Interrupted):
            pull.result()
    assert host.state(image) == ([], {}, {}, [])
    of_proxy = {one for one in threading.enumerate() if "process_request_thread" in one.name}
    assert set(threading.enumerate()) - before - of_proxy == set()


def test_download_that_fails_in_the_middle_leaves_nothing(place: Place, host: Host, image: Image) -> None:
    held = Fault(hold_down=2 * MIB, cut_down=3 * MIB)
    place.proxy.fault("GET", image.first, held, times=1)
    place.proxy.fault("GET", image.first, Fault(status=404))
    with pulling(host, image) as pull:
        wait_until_begun(host, pull)
        held.released.set()
        with pytest.raises(RegistryError, match="404"):
            pull.result()
    assert host.state(image) == ([], {}, {}, [])


def test_disk_that_is_full_for_a_while_does_no_harm(tmp_path: Path, other: Host, image: Image) -> None:
    host = Host(tmp_path, fails=[1])
    same(host, other, image, host.pull(image))
    assert host.trees == 3


def test_full_disk_is_reported(tmp_path: Path, image: Image) -> None:
    host, other = (Host(tmp_path / name, fails=range(9)) for name in ("one", "two"))
    assert ": the disk is full" in refused(host, other, image, BuildError)
    assert (host.trees, other.trees) == (2, 1)


def test_full_disk_below_the_blobs_is_reported(
    host: Host, other: Host, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: BlobFetch, _block: memoryview) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(BlobFetch, "_take", full)
    assert ": the disk is full" in refused(host, other, image, BuildError)
    assert host.trees == 0


def test_skopeo_takes_over_from_what_has_come(
    host: Host, other: Host, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second layer lies behind a proxy that our client does not know, and the first has been unpacked."""
    run = BlobFetch.run

    def leave(self: BlobFetch, operation: Operation) -> None:
        if self._digest == Digest.of(image.layers[1]):
            wait_until(lambda: host.store.has_tree(image.diff_ids[0]))
            raise LeftToSkopeo("it lies behind a proxy")
        run(self, operation)

    with monkeypatch.context() as patched:
        patched.setattr(BlobFetch, "run", leave)
        pulled = host.pull(image)
    same(host, other, image, pulled)


def test_skopeo_takes_over_while_a_layer_is_unpacked(
    place: Place, host: Host, other: Host, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = BlobFetch.run

    def leave(self: BlobFetch, operation: Operation) -> None:
        if self._digest == Digest.of(image.layers[1]):
            wait_until(lambda: any((host.store.folder / "tmp").rglob("etc/first")))
            raise LeftToSkopeo("it lies behind a proxy")
        run(self, operation)

    place.proxy.fault("GET", image.first, Fault(hold_down=2 * MIB), times=1)
    with monkeypatch.context() as patched:
        patched.setattr(BlobFetch, "run", leave)
        pulled = host.pull(image)
    assert host.trees == 3
    same(host, other, image, pulled)


def test_what_skopeo_fetches_is_unpacked_afterwards(
    place: Place, host: Host, other: Host, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CLIENT, "skopeo")
    pulled = host.pull(image)
    assert place.proxy.count("GET", image.first) == 1
    assert host.trees == 2
    same(host, other, image, pulled)
