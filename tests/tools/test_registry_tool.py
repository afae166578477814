"""Registries by our own client and through the real skopeo: a real registry behind a proxy that injects faults."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.digest import Digest
from buildkit.errors import BlobsMissingError, BuildkitError, DamagedError, Interrupted
from buildkit.oci.reference import parse_ref
from buildkit.tools.registry import CLIENT, RegistryClient
from buildkit.tools.registry_errors import RegistryTimeouts
from tests.faultyproxy import Fault, FaultyProxy
from tests.registry import PASSWORD, USER, make_authority, serve_registry, write_login
from tests.registryplace import BLOB_BEING_LINKED, TRIES, Place, answer, insecure, make_image, refusal, registries

pytestmark = pytest.mark.tools


@pytest.fixture(scope="module", params=["ours", "skopeo"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("registry")
    with serve_registry(folder) as host, FaultyProxy(host) as proxy:
        yield Place(host, proxy, folder, request.param)


@pytest.fixture(autouse=True)
def home(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which that registry, and any other on loopback, needs no TLS."""
    folder = tmp_path / "home/.config/containers"
    folder.mkdir(parents=True)
    insecure(tmp_path, place.proxy.host)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(CLIENT, place.way)
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    place.proxy.clear()
    return tmp_path


_NO_LOGIN = "unauthorized|authentication required"  # by skopeo 1.9, and by 1.18


@pytest.fixture(scope="module")
def pushed(place: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[Digest, ...]:
    """Blobs of an image that is there as some/name:one."""
    folder = tmp_path_factory.mktemp("pushed") / "image"
    digests = make_image(folder, 1)
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("first")
        (home / "home/.config/containers").mkdir(parents=True)
        insecure(home, place.proxy.host)
        patch.setenv("HOME", str(home / "home"))
        patch.setenv(CLIENT, place.way)
        assert registries().push(folder, place.ref()) == tuple(sorted(digests))
    return digests


# what works


def test_pushed_image_is_found_fetched_and_not_pushed_again(
    place: Place, pushed: tuple[Digest, ...], tmp_path: Path
) -> None:
    there = registries()
    manifest = there.manifest(place.ref())
    assert manifest is not None
    assert place.proxy.count("GET", "/manifests/") == 1
    assert place.proxy.count() <= 2  # skopeo pings
    assert there.manifest(place.ref(f"some/name@{Digest.of(manifest)}")) == manifest
    assert json.loads(there.config(place.ref()))["architecture"] == "amd64"
    there.fetch(place.ref(), tmp_path / "fetched")
    assert (tmp_path / "fetched/manifest.json").read_bytes() == manifest
    assert all((tmp_path / "fetched" / digest.hex).exists() for digest in pushed)
    place.proxy.clear()
    for digest in pushed:
        (tmp_path / "fetched" / digest.hex).unlink()
    assert there.push(tmp_path / "fetched", place.ref("some/name:two")) == ()
    assert sum(one.up for one in place.proxy.requests) == len(manifest)
    assert there.manifest(place.ref("some/name:two")) == manifest


def test_send_uploads_only_layers(place: Place, tmp_path: Path) -> None:
    """skopeo does not document its behaviour for a missing config, so this test pins it."""
    digests = make_image(tmp_path / "image", 77)
    manifest = json.loads((tmp_path / "image/manifest.json").read_bytes())
    config = tmp_path / "image" / Digest.parse(manifest["config"]["digest"]).hex
    kept = config.read_bytes()
    config.unlink()
    assert registries().send(tmp_path / "image", place.ref("some/alone:one")) == tuple(sorted(digests))
    assert registries().manifest(place.ref("some/alone:one")) is None
    assert place.proxy.count("PUT", "/manifests/") == 0
    place.proxy.clear()
    assert registries().send(tmp_path / "image", place.ref("some/alone:one")) == ()
    config.write_bytes(kept)
    assert registries().push(tmp_path / "image", place.ref("some/alone:one")) == ()
    assert sum(one.up > 0 for one in place.proxy.requests if "/uploads/" in one.path) == 1  # the config


def test_send_reports_damaged_and_refused_layers(place: Place, tmp_path: Path) -> None:
    one, two = make_image(tmp_path / "image", 78)
    manifest = json.loads((tmp_path / "image/manifest.json").read_bytes())
    (tmp_path / "image" / Digest.parse(manifest["config"]["digest"]).hex).unlink()
    place.proxy.fault("POST", "/uploads/", Fault(status=403, body=b'{"errors":[{"code":"DENIED"}]}'))
    assert refusal(lambda: registries().send(tmp_path / "image", place.ref("some/alone:two"))).denied
    place.proxy.clear()
    (tmp_path / "image" / two.hex).write_bytes(bytes(300_000))
    with pytest.raises(DamagedError) as caught:
        registries().send(tmp_path / "image", place.ref("some/alone:two"))
    assert caught.value.digests == (two.hex,)
    assert one.hex not in caught.value.digests


def test_push_returns_only_the_uploaded_blobs(place: Place, tmp_path: Path) -> None:
    first, second = make_image(tmp_path / "image", 50)
    registries().push(tmp_path / "image", place.ref("counted/here:one"))
    manifest = json.loads((tmp_path / "image/manifest.json").read_bytes())
    new = b"another layer"
    manifest["layers"] += [
        {"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": len(new), "digest": str(Digest.of(new))}
    ]
    (tmp_path / "image" / Digest.of(new).hex).write_bytes(new)
    (tmp_path / "image/manifest.json").write_text(json.dumps(manifest))
    assert registries().push(tmp_path / "image", place.ref("counted/here:two")) == (Digest.of(new),)
    assert first != second


def test_missing_manifest_is_none(place: Place, pushed: tuple[Digest, ...]) -> None:
    there = registries()
    assert there.manifest(place.ref("some/name:other")) is None
    assert there.manifest(place.ref("nobody/knows:this")) is None
    assert there.manifest(place.ref(f"some/name@{Digest.of(b'')}")) is None
    assert place.proxy.count("GET", "/manifests/") == 3
    for fault in (answer(404, "NAME_UNKNOWN", "x"), Fault(status=404, body=b"<html>"), Fault(status=404, body=b"")):
        place.proxy.clear()
        place.proxy.fault("GET", "/manifests/", fault)
        assert there.manifest(place.ref()) is None
        assert place.proxy.count("GET", "/manifests/") == 1


def test_manifests_are_looked_up_concurrently(place: Place, pushed: tuple[Digest, ...]) -> None:
    refs = [place.ref(f"some/name:{name}") for name in ("one", *map(str, range(20)))]
    found = registries().manifests(refs)
    assert list(found) == refs
    assert [ref.tag for ref, manifest in found.items() if manifest] == ["one"]
    assert place.proxy.count("GET", "/manifests/") == 21


# looking up


@pytest.mark.parametrize(
    ("fault", "tries", "says", "hints", "denied", "down"),
    [
        (answer(401, "UNAUTHORIZED", "authentication required"), 1, _NO_LOGIN, "log in: skopeo login {}", 1, 0),
        (answer(403, "DENIED", "requested access is denied"), 1, "denied", "log in as another: skopeo login {}", 1, 0),
        (Fault(status=403, body=b"<html>no</html>"), 1, "403", "log in as another", 1, 0),
        (answer(500, "UNKNOWN", "it broke"), TRIES, "500 Internal Server Error", "", 0, 1),
        (Fault(status=500, body=b"<html>"), TRIES, "500 Internal Server Error", "", 0, 1),
        (Fault(status=502, body=b""), TRIES, "502 Bad Gateway", "", 0, 1),
        (Fault(status=503, body=b"busy"), TRIES, "503 Service Unavailable", "", 0, 1),
        (Fault(cut_down=0), TRIES, "EOF", "", 0, 1),
        (Fault(cut_down=100), TRIES, "unexpected EOF", "", 0, 1),
        (answer(400, "UNSUPPORTED", "not today"), 1, "not today", "log in as another", 0, 0),
    ],
    ids=lambda value: f"{value.status or 'cut'}-{value.body[:20]!r}" if isinstance(value, Fault) else None,
)
def test_lookup_is_retried_after_transient_failures(
    place: Place, pushed: tuple[Digest, ...], fault: Fault, tries: int, says: str, hints: str, denied: int, down: int
) -> None:
    place.proxy.fault("GET", "/manifests/", fault)
    error = refusal(lambda: registries().manifest(place.ref()))
    assert error.message.startswith(f"{place.proxy.host}: looking up {place.ref()} failed: ")
    assert re.search(says, error.message)
    assert hints.format(place.proxy.host) in error.hint
    assert bool(error.hint) == bool(hints)
    assert (error.denied, error.down) == (bool(denied), bool(down))
    assert place.proxy.count("GET", "/manifests/") == tries


@pytest.mark.parametrize("fault", [Fault(status=503, body=b""), Fault(cut_down=0), Fault(cut_down=100)])
def test_transient_lookup_failure_is_not_reported(place: Place, pushed: tuple[Digest, ...], fault: Fault) -> None:
    place.proxy.fault("GET", "/manifests/", fault, times=2)
    assert registries().manifest(place.ref())
    assert place.proxy.count("GET", "/manifests/") == 3


def test_failing_registry_is_reported(place: Place) -> None:
    path = "/v2/$" if place.way == "skopeo" else "/v2/"
    place.proxy.fault("GET", path, Fault(status=500, body=b""))
    error = refusal(lambda: registries().manifest(place.ref()))
    assert re.search("(status code from registry|HTTP status:) 500|failed: 500 Internal Server Error", error.message)
    assert error.down
    assert place.proxy.count("GET", path) == TRIES


def test_rate_limited_registry_is_retried_as_it_asks(place: Place) -> None:
    place.proxy.fault("GET", "/manifests/", answer(429, "TOOMANYREQUESTS", "slow down", **{"Retry-After": "1"}))
    began = time.monotonic()
    error = refusal(lambda: registries().manifest(place.ref()))
    assert "too many requests" in error.message.replace("toomanyrequests", "too many requests")
    assert "it limits requests" in error.hint
    assert error.down
    assert place.proxy.count("GET", "/manifests/") == (5 if place.way == "skopeo" else TRIES)
    assert time.monotonic() - began > 3


def test_unreachable_registry_is_reported(place: Place, home: Path) -> None:
    insecure(home, "127.0.0.1:1")
    error = refusal(lambda: registries().manifest(parse_ref("127.0.0.1:1/a/b:c", "it")))
    assert "127.0.0.1:1: looking up 127.0.0.1:1/a/b:c failed: " in error.message
    assert "connection refused" in error.message
    assert "is it running" in error.hint
    assert error.down


def test_registry_with_an_address_of_ipv6_is_read_or_the_reason_is_clear(home: Path) -> None:
    """Which it is depends on the version of skopeo."""
    insecure(home, "[::1]:1")
    error = refusal(lambda: registries().manifest(parse_ref("[::1]:1/a/b:c", "it")))
    assert error.message.startswith("[::1]:1: looking up [::1]:1/a/b:c failed: ")
    is_read = "invalid reference format" not in error.message
    assert error.hint.startswith(
        "is it running" if is_read else "does this skopeo read addresses of IPv6? give [::1]:1"
    )


def test_undeclared_registry_without_tls_is_reported(place: Place, home: Path) -> None:
    insecure(home, "127.0.0.1:1")
    error = refusal(lambda: registries().manifest(place.ref()))
    assert re.search("does not look like a TLS handshake|HTTP response to HTTPS client", error.message)
    assert f"`insecure = true` for {place.proxy.host} in registries.conf(5)" in error.hint
    assert error.down


def test_undeclared_real_registry_without_tls_is_reported(place: Place, home: Path) -> None:
    insecure(home, "127.0.0.1:1")
    error = refusal(lambda: registries().manifest(parse_ref(f"{place.upstream}/some/name:one", "it")))
    assert "HTTP response to HTTPS client" in error.message
    assert f"`insecure = true` for {place.upstream} in registries.conf(5)" in error.hint
    assert error.down


def test_unknown_certificate_authority_is_reported(place: Place, home: Path, tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    authority = make_authority(tmp_path / "ca")
    with FaultyProxy(place.upstream, authority) as proxy:
        ref = parse_ref(f"{proxy.host}/some/name:one", "it")
        error = refusal(lambda: registries().manifest(ref))
        assert "x509" in error.message
        assert f"/etc/containers/certs.d/{proxy.host}/ca.crt" in error.hint
        assert error.down
        assert proxy.count() == 0
        trusted = home / "home/.config/containers/certs.d" / proxy.host
        trusted.mkdir(parents=True)
        (trusted / "ca.crt").write_bytes(authority.ca.read_bytes())
        assert registries().manifest(parse_ref(f"{proxy.host}/no/such:one", "it")) is None


def test_silent_registry_is_given_up_at_the_timeout(place: Place) -> None:
    place.proxy.fault("GET", "/manifests/", Fault(delay=3600))
    error = refusal(lambda: registries(RegistryTimeouts(look=3, waits=(0.01,))).manifest(place.ref()))
    assert re.search("deadline exceeded|nothing came or went for 3 s", error.message)
    assert "is it running" in error.hint
    assert error.down
    assert place.proxy.count("GET", "/manifests/") == 1  # who hung once would hang again


def test_another_manifest_than_a_digest_names_is_refused(place: Place, pushed: tuple[Digest, ...]) -> None:
    manifest = registries().manifest(place.ref())
    place.proxy.fault("GET", "/manifests/", Fault(flip=30))
    error = refusal(lambda: registries().manifest(place.ref(f"some/name@{Digest.of(manifest or b'')}")))
    assert "the registry returned another manifest" in error.message


def test_words_in_names_are_not_taken_for_causes(place: Place) -> None:
    place.proxy.fault("GET", "/manifests/", answer(400, "UNKNOWN", "odd"))
    for name in ("denied/quota-timeout:503", "x509/unauthorized:EOF"):
        place.proxy.requests.clear()
        error = refusal(lambda name=name: registries().manifest(place.ref(name)))
        assert (error.hint, error.denied, error.down) == ("", False, False)
        assert place.proxy.count("GET", "/manifests/") == 1


def test_oversized_manifest_is_not_read(place: Place) -> None:
    place.proxy.fault("GET", "/manifests/", Fault(status=200, body=b" " * (5 << 20)))
    for name in ("some/name:one", f"some/name@{Digest.of(b'x')}"):
        assert registries().manifest(place.ref(name)) == b""


def test_first_failed_lookup_cancels_the_others(place: Place) -> None:
    place.proxy.fault("GET", "/manifests/", answer(403, "DENIED"))
    error = refusal(lambda: registries().manifests([place.ref(f"some/name:{n}") for n in range(2000)]))
    assert error.denied
    assert place.proxy.count("GET", "/manifests/") < 1000


# fetching


@pytest.mark.parametrize(
    ("fault", "tries", "says", "down"),
    [
        (answer(404, "BLOB_UNKNOWN", "gone"), 1, "404|blob unknown", False),
        (Fault(status=503, body=b""), TRIES, "503", True),
        (Fault(cut_down=10_000), TRIES, "EOF", True),
        (Fault(flip=7), 1, "Digest did not match", False),
    ],
    ids=["gone", "503", "cut", "flipped"],
)
def test_fetch_is_retried_after_transient_failures(
    place: Place, pushed: tuple[Digest, ...], tmp_path: Path, fault: Fault, tries: int, says: str, down: bool
) -> None:
    blob = f"/blobs/{pushed[0]}"
    place.proxy.fault("GET", blob, fault)
    error = refusal(lambda: registries().fetch(place.ref(), tmp_path / "fetched"))
    assert error.message.startswith(f"{place.proxy.host}: fetching {place.ref()} failed: ")
    assert re.search(says, error.message)
    assert error.down == down
    assert place.proxy.count("GET", blob) in {tries, 2 * tries}  # since 1.17 skopeo tries a blob that was cut once more


def test_blob_truncated_once_is_fetched_completely(place: Place, pushed: tuple[Digest, ...], tmp_path: Path) -> None:
    place.proxy.fault("GET", "/blobs/", Fault(cut_down=100_000), times=1)
    registries().fetch(place.ref(), tmp_path / "fetched")
    for digest in pushed:
        assert hashlib.sha256((tmp_path / "fetched" / digest.hex).read_bytes()).hexdigest() == digest.hex


def test_stalled_blob_is_retried_once(place: Place, pushed: tuple[Digest, ...], tmp_path: Path) -> None:
    blob = f"/blobs/{pushed[0]}"
    place.proxy.fault("GET", blob, Fault(delay=3600))
    impatient = registries(RegistryTimeouts(fetch=2, waits=(0.01, 0.01, 0.01)))
    error = refusal(lambda: impatient.fetch(place.ref(), tmp_path / "fetched"))
    assert "nothing came or went for 2 s" in error.message
    assert error.down
    assert place.proxy.count("GET", blob) == 2


def test_a_slow_blob_is_waited_for(place: Place, pushed: tuple[Digest, ...], tmp_path: Path) -> None:
    place.proxy.fault("GET", f"/blobs/{pushed[0]}", Fault(rate=100_000))  # 3 s, never 2 s without a byte
    registries(RegistryTimeouts(fetch=2, waits=())).fetch(place.ref(), tmp_path / "fetched")


# pushing


@pytest.mark.parametrize(
    ("method", "path", "fault", "tries", "says", "hint"),
    [
        ("HEAD", "/blobs/", Fault(status=401, body=b""), 1, _NO_LOGIN, "log in: skopeo login"),
        ("POST", "/uploads/", answer(401, "UNAUTHORIZED", "authentication required"), 1, _NO_LOGIN, "log in"),
        ("POST", "/uploads/", answer(403, "DENIED", "no"), 1, "denied", "log in as another"),
        ("POST", "/uploads/", answer(405, "UNSUPPORTED", "read-only"), 1, "unsupported", "log in as another"),
        ("HEAD", "/blobs/", Fault(status=503), TRIES, "503", ""),
        ("", "_state=", Fault(status=500, body=b""), TRIES, "500", ""),
        ("", "_state=", Fault(cut_up=100_000), TRIES, "", ""),
        ("", "_state=", answer(429, "TOOMANYREQUESTS", "slow"), TRIES, "toomanyrequests", "limits requests"),
        ("", "_state=", Fault(status=413, body=b"too large"), 1, "413", "larger than it takes"),
        ("PUT", "/uploads/", answer(404, "BLOB_UPLOAD_UNKNOWN", "who?"), TRIES, "blob upload unknown", ""),
        ("PUT", "/manifests/", Fault(status=503, body=b""), TRIES, "503", ""),
        ("PUT", "/manifests/", answer(400, "MANIFEST_INVALID", "odd"), 1, "odd", ""),
        (
            "PUT",
            "/manifests/",
            answer(400, "MANIFEST_BLOB_UNKNOWN", "x"),
            1,
            "manifest blob unknown",
            "it has lost blobs",
        ),
    ],
    ids=lambda value: f"{value.status or 'cut'}" if isinstance(value, Fault) else None,
)
def test_push_is_retried_after_transient_failures(
    place: Place, tmp_path: Path, method: str, path: str, fault: Fault, tries: int, says: str, hint: str
) -> None:
    make_image(tmp_path / "image", random.randrange(1 << 30))
    place.proxy.fault(method, path, fault)
    ref = place.ref(f"pushed/{tmp_path.name.replace('_', '-').strip('-')}:one")
    error = refusal(lambda: registries().push(tmp_path / "image", ref))
    assert error.message.startswith(f"{place.proxy.host}: pushing {ref} failed: ")
    assert re.search(says, error.message, re.IGNORECASE)
    assert hint in error.hint
    assert bool(error.hint) == bool(hint)
    if place.way == "skopeo":
        assert place.proxy.count("GET", "/v2/$") == tries  # every skopeo asks that once
    else:
        blobs = 3  # at once
        assert place.proxy.count(method, path) <= blobs * tries * (1 if method else 2)
    assert place.proxy.count(method, path) >= tries
    place.proxy.clear()
    assert registries().manifest(ref) is None


@pytest.mark.parametrize(
    ("method", "path", "fault"),
    [
        ("", "_state=", Fault(cut_up=100_000)),
        ("", "_state=", Fault(status=503, body=b"")),
        ("PUT", "/manifests/", answer(429, "TOOMANYREQUESTS", "slow down")),
        ("PUT", "/manifests/", BLOB_BEING_LINKED),
    ],
)
def test_push_succeeds_after_one_disturbance(
    place: Place, tmp_path: Path, method: str, path: str, fault: Fault
) -> None:
    make_image(tmp_path / "image", random.randrange(1 << 30))
    place.proxy.fault(method, path, fault, times=1)
    ref = place.ref("disturbed/here:one")
    registries().push(tmp_path / "image", ref)
    assert registries().manifest(ref) == (tmp_path / "image/manifest.json").read_bytes()


def test_stalled_push_is_retried_once(place: Place, tmp_path: Path) -> None:
    make_image(tmp_path / "image", 70)
    place.proxy.fault("", "_state=", Fault(delay=3600))
    impatient = registries(RegistryTimeouts(push=3 if place.way == "skopeo" else 1, waits=(0.01, 0.01, 0.01)))
    error = refusal(lambda: impatient.push(tmp_path / "image", place.ref("hung/here:one")))
    assert "nothing came or went for " in error.message
    assert error.down
    sent = Counter(one.method for one in place.proxy.requests if one.faulty and one.method in ("PATCH", "PUT"))
    assert sent == {"PATCH": 2} if place.way == "skopeo" else sent["PUT"] >= 1


def test_unwritable_registry_is_reported(place: Place, home: Path, tmp_path: Path) -> None:
    (tmp_path / "sealed").mkdir()
    make_image(tmp_path / "image", 80)
    with serve_registry(tmp_path / "sealed", writable=False) as host:
        insecure(home, host)
        error = refusal(lambda: registries().push(tmp_path / "image", parse_ref(f"{host}/a/b:c", "it")))
    assert "405" in error.message or "unsupported" in error.message
    assert f"skopeo login {host}" in error.hint


def test_all_missing_blobs_are_named_together(place: Place, pushed: tuple[Digest, ...], tmp_path: Path) -> None:
    new = make_image(tmp_path / "image", 90)
    manifest = json.loads((tmp_path / "image/manifest.json").read_bytes())
    old = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 300_000, "digest": str(pushed[1])}
    manifest["layers"] = [manifest["layers"][0], old, manifest["layers"][1]]
    (tmp_path / "image/manifest.json").write_text(json.dumps(manifest))
    for digest in new:
        (tmp_path / "image" / digest.hex).unlink()
    with pytest.raises(BlobsMissingError) as caught:
        registries().push(tmp_path / "image", place.ref("some/name:three"))
    assert set(caught.value.digests) == {digest.hex for digest in new}
    assert place.proxy.count("GET", "/v2/$") <= 1
    assert place.proxy.count("POST") == 0


def test_blobs_lost_by_the_registry_are_pushed_again(place: Place, pushed: tuple[Digest, ...], tmp_path: Path) -> None:
    registries().fetch(place.ref(), tmp_path / "image")
    (tmp_path / "image" / pushed[0].hex).unlink()
    place.proxy.fault("PUT", "/manifests/", answer(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry"))
    with pytest.raises(BlobsMissingError) as caught:
        registries().push(tmp_path / "image", place.ref("some/name:four"))
    assert caught.value.digests == (pushed[0].hex,)


def test_manifest_whose_blobs_another_client_links_is_pushed_again(
    place: Place, pushed: tuple[Digest, ...], tmp_path: Path
) -> None:
    """Also by a client that lacks the blobs: they are not lost."""
    registries().fetch(place.ref(), tmp_path / "image")
    (tmp_path / "image" / pushed[0].hex).unlink()
    place.proxy.fault("PUT", "/manifests/", BLOB_BEING_LINKED, times=TRIES - 1)
    assert registries().push(tmp_path / "image", place.ref("some/name:five")) == ()
    assert registries().manifest(place.ref("some/name:five"))
    place.proxy.clear()
    place.proxy.fault("PUT", "/manifests/", BLOB_BEING_LINKED)
    error = refusal(lambda: registries().push(tmp_path / "image", place.ref("some/name:six")))
    assert "digest invalid" in error.message
    assert place.proxy.count("PUT", "/manifests/") == TRIES


def test_blob_with_wrong_bytes_is_named(place: Place, tmp_path: Path) -> None:
    first, second = make_image(tmp_path / "image", 100)
    (tmp_path / "image" / second.hex).write_bytes(b"x" * 300_000)
    with pytest.raises(DamagedError) as caught:
        registries().push(tmp_path / "image", place.ref("damaged/here:one"))
    assert caught.value.digests == (second.hex,)
    assert registries().manifest(place.ref("damaged/here:one")) is None
    assert first != second


# log-ins and secrets


def test_password_is_never_printed(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    make_image(tmp_path / "image", 110)
    with serve_registry(tmp_path / "closed", password=True) as host:
        insecure(home, host)
        ref = parse_ref(f"{host}/a/b:c", "it")
        error = refusal(lambda: registries().manifest(ref))
        assert error.denied
        assert f"log in: skopeo login {host}" in error.hint
        wrong = write_login(tmp_path / "wrong", host, password="not-it-at-all")
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(wrong))
        error = refusal(lambda: registries().push(tmp_path / "image", ref))
        assert error.denied
        printed = error.message + error.hint + error.output
        for secret in ("not-it-at-all", base64.b64encode(f"{USER}:not-it-at-all".encode()).decode(), PASSWORD):
            assert secret not in printed
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(write_login(tmp_path / "right", host)))
        assert registries().manifest(ref) is None
        assert len(registries().push(tmp_path / "image", ref)) == 2


def test_url_query_is_never_printed(place: Place, tmp_path: Path) -> None:
    make_image(tmp_path / "image", 120)
    place.proxy.fault("", "_state=", Fault(cut_up=0))
    error = refusal(lambda: registries().push(tmp_path / "image", place.ref("signed/here:one")))
    assert place.proxy.count(place.sends, "_state=")
    assert place.way == "ours" or "/blobs/uploads/" in error.message
    assert "_state" not in error.message


# stopping


def test_stop_ends_waiting_between_retries(place: Place) -> None:
    stop = threading.Event()
    patient = RegistryClient(stop, RegistryTimeouts(waits=(3600,)))
    place.proxy.fault("GET", "/manifests/", Fault(status=503, body=b""))
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            patient.manifest(place.ref())
        except BuildkitError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while not place.proxy.count("GET", "/manifests/"):
        assert thread.is_alive()
    stop.set()
    thread.join(30)
    assert [type(error) for error in errors] == [Interrupted]
    assert place.proxy.count("GET", "/manifests/") == 1
