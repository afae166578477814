"""Layers that go up while they are written, to a real registry: named when they are accepted, and never else."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from buildkit.digest import Digest, Key
from buildkit.remote import layer_stream
from buildkit.remote.layer_stream import LayerStream, LayerStreams
from buildkit.tools.registry import CLIENT, RegistryClient
from buildkit.tools.registry_errors import RegistryTimeouts
from tests.faultyproxy import Fault, FaultyProxy
from tests.registryplace import Place, registries
from tests.waiting import wait_until

pytestmark = [pytest.mark.tools, pytest.mark.usefixtures("home")]

KEY = Key.of(b"a layer")
SIZE = 3 << 20


@pytest.fixture(autouse=True)
def _small_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blobs be worth a stream from their first byte."""
    monkeypatch.setattr(layer_stream, "MIN_STREAM_BYTES", 1)


@pytest.fixture
def data() -> bytes:
    return random.Random(random.randrange(1 << 30)).randbytes(SIZE)


def streams_to(place: Place, name: str, client: RegistryClient | None = None) -> LayerStreams:
    ref, used = place.ref(name), client or registries()
    return LayerStreams(lambda _key, blob: used.stream(ref, blob))


@contextmanager
def writing(streams: LayerStreams, tmp_path: Path) -> Iterator[LayerStream]:
    with (tmp_path / "blob").open("wb") as out, streams.open(KEY, out) as stream:
        assert stream is not None
        yield stream


def has(place: Place, name: str, data: bytes) -> bool:
    """Whether the registry has the blob, asked without the proxy."""
    path = place.folder / "data/docker/registry/v2/repositories" / name / "_layers/sha256" / Digest.of(data).hex
    return path.exists()


def left(place: Place, name: str) -> list[Path]:
    """Bytes of uploads that the registry keeps."""
    return list((place.folder / "data/docker/registry/v2/repositories" / name / "_uploads").rglob("data"))


def arrived(proxy: FaultyProxy) -> int:
    return sum(one.up for one in proxy.requests if one.method == "PATCH")


def test_bytes_arrive_while_the_blob_is_written_and_it_is_named_when_it_is_accepted(
    place: Place, tmp_path: Path, data: bytes
) -> None:
    with streams_to(place, "grows") as streams, writing(streams, tmp_path) as stream:
        for start in range(0, SIZE, SIZE // 3):
            stream.write(data[start : start + SIZE // 3])
            wait_until(lambda start=start: arrived(place.proxy) >= start + SIZE // 3)  # type: ignore[misc]
        assert not has(place, "grows", data)
        stream.accept(Digest.of(data))
        assert streams.finish(KEY)
        assert has(place, "grows", data)
        assert streams.vain == 0
    assert {one.method: one.status for one in place.proxy.requests} == {"POST": 202, "PATCH": 202, "PUT": 201}
    assert arrived(place.proxy) == SIZE
    assert (tmp_path / "blob").read_bytes() == data


def test_layer_that_is_refused_is_no_blob(place: Place, tmp_path: Path, data: bytes) -> None:
    streams = streams_to(place, "refused")
    with suppress(ZeroDivisionError), streams, writing(streams, tmp_path) as stream:
        stream.write(data)
        wait_until(lambda: arrived(place.proxy) == SIZE)
        raise ZeroDivisionError
    assert not streams.finish(KEY)
    assert streams.vain == SIZE
    assert not has(place, "refused", data)
    assert left(place, "refused") == []
    assert {one.method: one.status for one in place.proxy.requests} == {"POST": 202, "PATCH": 202, "DELETE": 204}


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("POST", Fault(status=405)),
        ("POST", Fault(cut_down=0)),
        ("PATCH", Fault(status=411)),
        ("PATCH", Fault(status=503)),
        ("PATCH", Fault(cut_up=SIZE // 2)),
        ("PATCH", Fault(cut_down=0)),
        ("PUT", Fault(status=400)),
        ("PUT", Fault(status=503)),
    ],
)
def test_stream_that_fails_is_left_to_the_complete_blob(
    place: Place, tmp_path: Path, data: bytes, method: str, fault: Fault
) -> None:
    name = f"fails/{method.lower()}"
    place.proxy.fault(method, "/uploads/", fault)
    with streams_to(place, name) as streams:
        with writing(streams, tmp_path) as stream:
            stream.write(data)
            stream.accept(Digest.of(data))
        assert not streams.finish(KEY)
        assert not has(place, name, data)
        with (tmp_path / "other").open("wb") as out, streams.open(Key.of(b"another"), out) as other:
            assert other is None  # the registry is not tried again
    assert (tmp_path / "blob").read_bytes() == data


def test_other_bytes_than_the_digest_says_are_no_blob(place: Place, tmp_path: Path, data: bytes) -> None:
    with streams_to(place, "other/bytes") as streams, writing(streams, tmp_path) as stream:
        stream.write(data)
        stream.accept(Digest.of(b"else"))
        assert not streams.finish(KEY)
    assert not has(place, "other/bytes", data)


def test_stop_ends_a_stream_that_waits_for_the_registry(place: Place, tmp_path: Path, data: bytes) -> None:
    place.proxy.fault("PUT", "/uploads/", Fault(delay=3600))
    stop = threading.Event()
    client = RegistryClient(stop, RegistryTimeouts(push=3600))
    with streams_to(place, "stopped", client) as streams, writing(streams, tmp_path) as stream:
        stream.write(data)
        stream.accept(Digest.of(data))
        wait_until(lambda: place.proxy.count("PUT") == 1)
        stop.set()
        assert not streams.finish(KEY)


def test_small_blob_is_not_streamed(place: Place, tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_stream, "MIN_STREAM_BYTES", SIZE + 1)
    with streams_to(place, "small") as streams, writing(streams, tmp_path) as stream:
        stream.write(data)
        assert not streams.has(KEY)
        stream.accept(Digest.of(data))
        assert not streams.finish(KEY)
    assert place.proxy.requests == []


def test_skopeo_streams_nothing(place: Place, tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CLIENT, "skopeo")
    with streams_to(place, "skopeo") as streams, writing(streams, tmp_path) as stream:
        stream.write(data)
        stream.accept(Digest.of(data))
        assert not streams.finish(KEY)
        assert not streams.has(KEY)
    assert place.proxy.requests == []
