"""Fetches by our own client: a real registry behind a proxy that injects faults."""

from __future__ import annotations

import errno
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from buildkit.digest import Digest
from buildkit.oci.image import OCI_INDEX
from buildkit.oci.reference import parse_ref
from buildkit.tools.distribution.blob_fetch import BlobFetch
from buildkit.tools.distribution.connections import Operation
from buildkit.tools.distribution.image_fetch import list_blobs
from buildkit.tools.distribution.left_to_skopeo import LeftToSkopeo
from buildkit.tools.registry import CLIENT
from buildkit.tools.skopeo import write_layout
from tests.faultyproxy import Fault
from tests.registryplace import MANIFEST, Place, insecure, make_image, refusal, registries

pytestmark = pytest.mark.tools

SIZE = 300_000


@pytest.fixture(autouse=True)
def home(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home/.config/containers"
    folder.mkdir(parents=True)
    insecure(tmp_path, place.proxy.host)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(CLIENT, raising=False)
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    place.proxy.clear()
    return folder


@pytest.fixture
def pushed(place: Place, tmp_path: Path) -> tuple[Digest, ...]:
    """Layers of an image that is there as some/name:one."""
    digests = make_image(tmp_path / "image", random.randrange(1 << 40), SIZE)
    registries().push(tmp_path / "image", place.ref())
    place.proxy.clear()
    return digests


def test_both_ways_fetch_the_same_files(
    place: Place, pushed: tuple[Digest, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = registries()
    client.fetch(place.ref(), tmp_path / "ours")
    assert client.why_skopeo(place.ref()) == ""
    monkeypatch.setenv(CLIENT, "skopeo")
    registries().fetch(place.ref(), tmp_path / "skopeo")
    ours, theirs = ({path.name: path.read_bytes() for path in (tmp_path / way).iterdir()} for way in ("ours", "skopeo"))
    assert ours == theirs
    assert {digest.hex for digest in pushed} < ours.keys()


def test_cut_blob_is_resumed_at_its_last_byte(place: Place, pushed: tuple[Digest, ...], tmp_path: Path) -> None:
    blob = f"/blobs/{pushed[0]}"
    place.proxy.fault("GET", blob, Fault(cut_down=100_000), times=2)
    registries().fetch(place.ref(), tmp_path / "fetched")
    assert Digest.of((tmp_path / "fetched" / pushed[0].hex).read_bytes()) == pushed[0]
    asked = [one for one in place.proxy.requests if blob in one.path]
    assert [one.headers.get("range", "").partition("-")[0] != "" for one in asked] == [False, True, True]
    assert sum(one.down for one in asked) <= SIZE + 2


def test_registry_that_sends_everything_again_is_read_from_the_beginning(
    place: Place, pushed: tuple[Digest, ...], tmp_path: Path
) -> None:
    blob = f"/blobs/{pushed[0]}"
    whole = (tmp_path / "image" / pushed[0].hex).read_bytes()
    place.proxy.fault("GET", blob, Fault(cut_down=1000), times=1)
    place.proxy.fault("GET", blob, Fault(status=416), times=1)
    place.proxy.fault("GET", blob, Fault(cut_down=1000), times=1)
    place.proxy.fault("GET", blob, Fault(status=200, body=whole, headers={}), times=1)
    out = io.BytesIO()
    come: list[int] = []
    registries().fetch_blob(place.ref(), (pushed[0], SIZE), out, come.append)
    assert out.getvalue() == whole
    assert come[-1] == SIZE
    assert come.count(0) == 4  # it says so each time


@pytest.mark.parametrize(
    ("size", "says"),
    [(SIZE - 1, "file too large: a blob has more than the 299999 bytes"), (SIZE + 1, "sent 300000 of 300001 bytes")],
)
def test_blob_of_another_size_is_refused(place: Place, pushed: tuple[Digest, ...], size: int, says: str) -> None:
    out = io.BytesIO()
    error = refusal(lambda: registries().fetch_blob(place.ref(), (pushed[0], size), out))
    assert says in error.message
    assert len(out.getvalue()) <= size


def test_blob_with_other_bytes_is_refused(place: Place, pushed: tuple[Digest, ...]) -> None:
    place.proxy.fault("GET", f"/blobs/{pushed[0]}", Fault(flip=SIZE - 1))
    error = refusal(lambda: registries().fetch_blob(place.ref(), (pushed[0], SIZE), io.BytesIO()))
    assert f"Digest did not match, expected {pushed[0]}" in error.message
    assert place.proxy.count("GET", "/blobs/") == 1


def test_config_comes_first_and_then_the_lowest_layer(pushed: tuple[Digest, ...], tmp_path: Path) -> None:
    manifest = (tmp_path / "image/manifest.json").read_bytes()
    config = Digest.parse(json.loads(manifest)["config"]["digest"])
    assert [digest for digest, _ in list_blobs(manifest)] == [config, *pushed]


def test_limit_is_held_before_anything_is_fetched(place: Place, pushed: tuple[Digest, ...], tmp_path: Path) -> None:
    error = refusal(lambda: registries().fetch(place.ref(), tmp_path / "fetched", most=SIZE - 1))
    assert "file too large" in error.message
    assert place.proxy.count("GET", "/blobs/") == 0
    registries().fetch(place.ref(), tmp_path / "fetched", most=SIZE)
    assert all((tmp_path / "fetched" / digest.hex).exists() for digest in pushed)


def test_one_image_of_an_index_is_fetched(place: Place, pushed: tuple[Digest, ...], tmp_path: Path) -> None:
    image = (tmp_path / "image/manifest.json").read_bytes()
    other = {"mediaType": MANIFEST, "digest": str(Digest.of(b"not there")), "size": 9}
    wanted = {"mediaType": MANIFEST, "digest": str(Digest.of(image)), "size": len(image)}
    entries = [
        other | {"platform": {"os": "linux", "architecture": "s390x"}},
        other | {"platform": {"os": "windows", "architecture": "riscv64"}},
        wanted | {"platform": {"os": "linux", "architecture": "riscv64"}},
    ]
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    (tmp_path / "index").mkdir()
    write_layout(tmp_path / "index", index)
    place.proxy.fault("GET", "/manifests/many", Fault(body=index, status=200, headers={"Content-Type": OCI_INDEX}))
    registries().fetch(place.ref("some/name:many"), tmp_path / "fetched", arch="riscv64")
    assert (tmp_path / "fetched/manifest.json").read_bytes() == image
    assert all((tmp_path / "fetched" / digest.hex).exists() for digest in pushed)
    error = refusal(lambda: registries().fetch(place.ref("some/name:many"), tmp_path / "no", arch="loong64"))
    assert "no image found in the index for Linux on loong64" in error.message


@pytest.mark.parametrize("kind", ["mirror", "policy"])
def test_what_our_client_does_not_know_is_fetched_by_skopeo(
    place: Place, pushed: tuple[Digest, ...], tmp_path: Path, home: Path, kind: str
) -> None:
    if kind == "mirror":
        host = place.proxy.host
        (home / "registries.conf").write_text(
            f'[[registry]]\nlocation = "nowhere.invalid/some"\n[[registry.mirror]]\nlocation = "{host}/some"\n'
            "insecure = true\n"
        )
        ref = parse_ref("nowhere.invalid/some/name:one", "it")
    else:
        anything = [{"type": "insecureAcceptAnything"}]
        policy = {"default": anything, "transports": {"docker": {place.proxy.host: anything}}}
        (home / "policy.json").write_text(json.dumps(policy))
        ref = place.ref()
    client = registries()
    client.fetch(ref, tmp_path / "fetched")
    assert all((tmp_path / "fetched" / digest.hex).exists() for digest in pushed)
    out = io.BytesIO()
    client.fetch_blob(ref, (pushed[1], SIZE), out)
    assert Digest.of(out.getvalue()) == pushed[1]
    assert client.why_skopeo(ref)


def test_what_is_left_to_skopeo_in_the_middle_leaves_nothing_in_its_way(
    place: Place, pushed: tuple[Digest, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob may lie behind a proxy that our client does not know."""
    run = BlobFetch.run

    def leave(self: BlobFetch, operation: Operation) -> None:
        run(self, operation)
        raise LeftToSkopeo("it lies behind a proxy")

    monkeypatch.setattr(BlobFetch, "run", leave)
    client, out = registries(), io.BytesIO()
    client.fetch(place.ref(), tmp_path / "fetched")
    client.fetch_blob(place.ref(), (pushed[0], SIZE), out)
    assert client.why_skopeo(place.ref()) == "it lies behind a proxy"
    assert all((tmp_path / "fetched" / digest.hex).stat().st_size == SIZE for digest in pushed)
    assert Digest.of(out.getvalue()) == pushed[0]


def test_failed_write_leaves_no_bytes_twice(place: Place, pushed: tuple[Digest, ...]) -> None:
    class Failing(io.BytesIO):
        writes = 0

        def write(self, block: Any, /) -> int:
            self.writes += 1
            if self.writes == 2:  # of the rest
                super().write(bytes(block)[:1000])
                raise OSError(errno.EIO, "an error of the disk")
            return super().write(block)

    place.proxy.fault("GET", "/blobs/", Fault(cut_down=100_000), times=1)
    out = Failing()
    registries().fetch_blob(place.ref(), (pushed[0], SIZE), out)
    assert Digest.of(out.getvalue()) == pushed[0]
