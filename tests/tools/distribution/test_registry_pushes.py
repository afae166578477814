"""Pushes by our own client to a real registry: log-ins by token, mounts, chunks, other hosts, hostile answers."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from buildkit.digest import Digest
from buildkit.errors import BlobsMissingError, Interrupted, RegistryError
from buildkit.oci.reference import parse_ref
from buildkit.tools.distribution import blob_push
from buildkit.tools.push_details import PushDetails
from buildkit.tools.registry import CLIENT, RegistryClient
from buildkit.tools.registry_errors import RegistryTimeouts
from tests.faultyproxy import Fault, FaultyProxy
from tests.registry import PASSWORD, USER, make_authority, serve_registry, write_login
from tests.registryplace import Place, insecure, make_image, refusal, registries
from tests.tokenservice import IDENTITY, TokenService, serve_tokens
from tests.waiting import wait_until

pytestmark = [pytest.mark.tools, pytest.mark.usefixtures("home")]


def seed() -> int:
    return random.randrange(1 << 30)


def push(folder: Path, host: str, name: str, client: RegistryClient | None = None) -> tuple[Digest, ...]:
    client = client or registries()
    ref = parse_ref(f"{host}/{name}", "it")
    pushed = client.push(folder, ref)
    assert client.why_skopeo(ref) == ""
    return pushed


def blobs_sent(proxy: FaultyProxy) -> int:
    return sum(one.up for one in proxy.requests if "/blobs/uploads/" in one.path)


# the same result


def test_both_ways_push_the_same_bytes(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_image(tmp_path / "image", seed())
    manifests = []
    for way in ("ours", "skopeo"):
        monkeypatch.setenv(CLIENT, way)
        ref = place.ref(f"same/{way}:one")
        registries().push(tmp_path / "image", ref)
        manifests.append(registries().manifest(ref))
    assert manifests == [(tmp_path / "image/manifest.json").read_bytes()] * 2
    monkeypatch.setenv(CLIENT, "ours")
    there = registries().digest(place.ref("same/skopeo:one"))
    assert there == registries().digest(place.ref("same/ours:one")) == Digest.of(manifests[0] or b"")


def test_known_manifest_costs_one_request(place: Place, tmp_path: Path) -> None:
    make_image(tmp_path / "image", seed())
    push(tmp_path / "image", place.proxy.host, "known/one:one")
    place.proxy.clear()
    assert registries().digest(place.ref("known/one:one"))
    assert [(one.method, one.path) for one in place.proxy.requests] == [("HEAD", "/v2/known/one/manifests/one")]
    assert registries().digest(place.ref("known/one:two")) is None


@pytest.mark.parametrize("fault", [Fault(status=405), Fault(status=501), Fault(status=200, headers={"X-Nothing": "1"})])
def test_registry_without_head_is_asked_by_get(place: Place, tmp_path: Path, fault: Fault) -> None:
    digests = make_image(tmp_path / "image", seed())
    push(tmp_path / "image", place.proxy.host, "headless/one:one")
    place.proxy.fault("HEAD", "/manifests/", fault)
    manifest = (tmp_path / "image/manifest.json").read_bytes()
    assert registries().digest(place.ref("headless/one:one")) == Digest.of(manifest)
    if fault.status != 200:
        place.proxy.fault("HEAD", "/blobs/", fault)
        assert push(tmp_path / "image", place.proxy.host, "headless/one:two") == ()
        assert push(tmp_path / "image", place.proxy.host, "headless/two:two") == tuple(sorted(digests))


def test_large_blobs_are_not_held_in_memory(place: Place, tmp_path: Path) -> None:
    make_image(tmp_path / "image", seed(), size=150_000_000)
    code = (
        "import resource, sys, threading\nfrom pathlib import Path\n"
        "from buildkit.oci.reference import parse_ref\nfrom buildkit.tools.registry import RegistryClient\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "RegistryClient(threading.Event()).push(Path(sys.argv[1]), parse_ref(sys.argv[2], 'it'))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    argv = (sys.executable, "-c", code, str(tmp_path / "image"), str(place.ref("large/one:one")))
    ended = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 40 << 10  # KiB


def test_progress_is_reported_in_bytes(place: Place, tmp_path: Path) -> None:
    make_image(tmp_path / "image", seed(), size=5_000_000)
    reports: list[int] = []
    registries().push(tmp_path / "image", place.ref("told/one:one"), PushDetails(report=reports.append))
    assert len(reports) >= 10
    assert 10_000_000 < max(reports) < 10_001_000
    assert reports[-1] == max(reports)


# other clients


def test_manifest_is_stored_while_another_client_links_its_blob(place: Place, tmp_path: Path) -> None:
    """The registry empties a blob's link before it writes it, and refuses the manifests that come between."""
    digests = make_image(tmp_path / "image", seed())
    push(tmp_path / "image", place.proxy.host, "linked/one:one")
    present = registries().listed_blobs(place.ref("linked/one:one"))
    layers = place.folder / "data/docker/registry/v2/repositories/linked/one/_layers/sha256"
    link = layers / digests[0].hex / "link"
    text = link.read_text()
    link.write_text("")

    def write_once_refused() -> None:
        wait_until(lambda: any(one.status for one in place.proxy.requests))
        link.write_text(text)

    place.proxy.clear()
    patient = registries(RegistryTimeouts(waits=(0.3,) * 10))
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write_once_refused)
        patient.push(tmp_path / "image", place.ref("linked/one:two"), PushDetails(present=present))
        writing.result()
    assert [one.status for one in place.proxy.requests] == [400, 201]


# mounts


def test_blobs_are_mounted_from_another_repository(place: Place, tmp_path: Path) -> None:
    digests = make_image(tmp_path / "image", seed())
    push(tmp_path / "image", place.proxy.host, "mounted/from:one")
    for digest in digests:
        (tmp_path / "image" / digest.hex).unlink()
    place.proxy.clear()
    ref = place.ref("mounted/to:one")
    with pytest.raises(BlobsMissingError):
        registries().push(tmp_path / "image", ref)
    assert registries().push(tmp_path / "image", ref, PushDetails(mounts=lambda _digest: "mounted/from")) == ()
    assert blobs_sent(place.proxy) < 1000  # the config
    assert place.proxy.count("POST", "mount=sha256%3A[0-9a-f]{64}&from=mounted%2Ffrom") == 3


@pytest.mark.parametrize("fault", [Fault(status=403), Fault(status=404), Fault(status=405), Fault(status=202), None])
def test_registry_that_does_not_mount_gets_the_bytes(place: Place, tmp_path: Path, fault: Fault | None) -> None:
    digests = make_image(tmp_path / "image", seed())
    if fault:
        place.proxy.fault("POST", "mount=", fault)
    ref = place.ref(f"unmounted/{seed()}:one")
    details = PushDetails(mounts=lambda _digest: "nobody/has-it")
    assert registries().push(tmp_path / "image", ref, details) == tuple(sorted(digests))
    if fault is None:  # the upload that the registry has begun instead is used
        assert place.proxy.count("POST") == 3
    (tmp_path / "image" / digests[0].hex).unlink()
    with pytest.raises(BlobsMissingError) as caught:
        registries().push(tmp_path / "image", place.ref("unmounted/elsewhere:one"), details)
    assert caught.value.digests == (digests[0].hex,)
    assert registries().manifest(place.ref("unmounted/elsewhere:one")) is None


# cut connections and registries that limit requests


def test_cut_upload_goes_on_in_chunks(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_push, "_CHUNK", 1_000_000)
    digests = make_image(tmp_path / "image", seed(), size=3_500_000)
    place.proxy.fault("PUT", f"digest=.*{digests[0].hex}", Fault(cut_up=1_200_000), times=1)
    place.proxy.fault("PATCH", "_state=", Fault(cut_up=0), times=1)  # and once between two chunks
    assert push(tmp_path / "image", place.proxy.host, "cut/one:one") == tuple(sorted(digests))
    patches = [one for one in place.proxy.requests if one.method == "PATCH" and one.status == 202]
    assert [one.headers["content-range"] for one in patches][:2] == ["0-999999", "1000000-1999999"]
    assert sum(one.up for one in patches) == 3_500_000


def test_upload_resumes_where_the_registry_is(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_push, "_CHUNK", 1_000_000)
    digests = make_image(tmp_path / "image", seed(), size=3_500_000)
    for digest in digests:
        place.proxy.fault("PUT", digest.hex, Fault(status=413), times=1)
    monkeypatch.setattr(blob_push, "_SMALLEST_CHUNK", 1)
    place.proxy.fault("PATCH", "_state=", Fault(), times=3)
    place.proxy.fault("PATCH", "_state=", Fault(cut_up=0), times=1)
    assert push(tmp_path / "image", place.proxy.host, "resumed/one:one") == tuple(sorted(digests))
    sent = sum(one.up for one in place.proxy.requests if one.method == "PATCH")
    assert sent == 7_000_000  # nothing went up twice
    status = [one for one in place.proxy.requests if one.method == "GET" and "_state=" in one.path]
    assert [one.status for one in status] == [204]


@pytest.mark.parametrize("status", [405, 413, 501])
def test_registry_that_takes_no_whole_blob_gets_chunks(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(blob_push, "_CHUNK", 1_000_000)
    monkeypatch.setattr(blob_push, "_SMALLEST_CHUNK", 1)
    digests = make_image(tmp_path / "image", seed(), size=2_500_000)
    for digest in digests:
        place.proxy.fault("PUT", digest.hex, Fault(status=status), times=1)
    assert push(tmp_path / "image", place.proxy.host, f"pieces/of{status}:one") == tuple(sorted(digests))
    assert place.proxy.count("PATCH") == 6
    assert place.proxy.count("POST") == 3 + 2


def test_registry_that_takes_nothing_large_is_reported(place: Place, tmp_path: Path) -> None:
    make_image(tmp_path / "image", seed(), size=400_000)
    place.proxy.fault("", "_state=", Fault(status=413))
    error = refusal(lambda: push(tmp_path / "image", place.proxy.host, "small/only:one"))
    assert "413" in error.message
    assert place.proxy.count("PUT", "/manifests/") == 0


def test_answer_that_was_lost_costs_no_second_upload(place: Place, tmp_path: Path) -> None:
    digests = make_image(tmp_path / "image", seed())
    for digest in digests:
        place.proxy.fault("PUT", digest.hex, Fault(cut_down=0), times=1)
    assert push(tmp_path / "image", place.proxy.host, "lost/answer:one") == tuple(sorted(digests))
    assert blobs_sent(place.proxy) < 601_000


def test_slow_registry_is_waited_for(place: Place, tmp_path: Path) -> None:
    make_image(tmp_path / "image", seed(), size=12_000_000)
    place.proxy.fault("PUT", "_state=", Fault(rate=3_000_000))
    client = registries(RegistryTimeouts(push=2.5, waits=()))  # seconds without a byte; 4 in all
    push(tmp_path / "image", place.proxy.host, "slow/one:one", client)


def test_two_pushes_at_once_both_succeed(place: Place, tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_image(tmp_path / name, 4711, size=2_000_000)  # the same image
    with ThreadPoolExecutor(2) as pool:
        pushes = [pool.submit(push, tmp_path / name, place.proxy.host, f"at/once:{name}") for name in ("one", "two")]
        assert all(one.result() is not None for one in pushes)
    assert registries().digest(place.ref("at/once:one")) == registries().digest(place.ref("at/once:two"))


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
def test_stop_ends_a_push_at_once(place: Place, tmp_path: Path, method: str) -> None:
    make_image(tmp_path / "image", seed())
    stop = threading.Event()
    client = RegistryClient(stop)
    place.proxy.fault(method, "/blobs/", Fault(delay=3600))
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(push, tmp_path / "image", place.proxy.host, "stopped/one:one", client)
        wait_until(lambda: place.proxy.count(method))
        stop.set()
        with pytest.raises(Interrupted):
            pushing.result(timeout=60)


# log-ins by token


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TokenService, FaultyProxy]]:
    """A registry that wants tokens."""
    folder = tmp_path_factory.mktemp("guarded")
    with (
        serve_tokens(folder) as tokens,
        serve_registry(folder, tokens=tokens) as host,
        FaultyProxy(host) as proxy,
    ):
        yield tokens, proxy


@pytest.fixture
def token_place(
    guarded: tuple[TokenService, FaultyProxy], home: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[TokenService, FaultyProxy]:
    tokens, proxy = guarded
    proxy.clear()
    tokens.asked.clear()
    insecure(home, proxy.host)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(write_login(home / "login", proxy.host)))
    return guarded


@pytest.mark.parametrize("way", ["ours", "skopeo"])
def test_push_gets_one_token_for_all_requests(
    token_place: tuple[TokenService, FaultyProxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    tokens, proxy = token_place
    monkeypatch.setenv(CLIENT, way)
    digests = make_image(tmp_path / "image", seed())
    ref = parse_ref(f"{proxy.host}/token/{way}:one", "it")
    assert registries().push(tmp_path / "image", ref) == tuple(sorted(digests))
    assert tokens.asked == [(f"repository:token/{way}:pull,push",)] * len(tokens.asked)
    assert len(tokens.asked) == 1 or way == "skopeo"


def test_expired_token_is_replaced_during_an_upload(
    token_place: tuple[TokenService, FaultyProxy], tmp_path: Path
) -> None:
    tokens, proxy = token_place
    digests = make_image(tmp_path / "image", seed())
    challenge = f'Bearer realm="{tokens.realm}",service="tests",error="invalid_token"'
    for digest in digests:
        proxy.fault("PUT", digest.hex, Fault(status=401, headers={"WWW-Authenticate": challenge}), times=1)
    assert push(tmp_path / "image", proxy.host, "expired/one:one") == tuple(sorted(digests))
    assert len(tokens.asked) >= 2


def test_mount_asks_for_the_scope_of_its_source(token_place: tuple[TokenService, FaultyProxy], tmp_path: Path) -> None:
    tokens, proxy = token_place
    make_image(tmp_path / "image", seed())
    push(tmp_path / "image", proxy.host, "scoped/from:one")
    proxy.clear()
    client, ref = registries(), parse_ref(f"{proxy.host}/scoped/to:one", "it")
    assert client.push(tmp_path / "image", ref, PushDetails(mounts=lambda _digest: "scoped/from")) == ()
    assert ("repository:scoped/to:pull,push", "repository:scoped/from:pull") in tokens.asked
    assert blobs_sent(proxy) < 1000


def test_source_without_rights_gets_the_bytes(token_place: tuple[TokenService, FaultyProxy], tmp_path: Path) -> None:
    tokens, proxy = token_place
    tokens.refused = ("repository:secret/from:pull",)
    digests = make_image(tmp_path / "image", seed())
    client, ref = registries(), parse_ref(f"{proxy.host}/scoped/other:one", "it")
    pushed = client.push(tmp_path / "image", ref, PushDetails(mounts=lambda _digest: "secret/from"))
    tokens.refused = ()
    assert pushed == tuple(sorted(digests))


@pytest.mark.parametrize("way", ["ours", "skopeo"])
def test_identity_token_is_exchanged(
    token_place: tuple[TokenService, FaultyProxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    _, proxy = token_place
    monkeypatch.setenv(CLIENT, way)
    nobody = base64.b64encode(b"nobody:").decode()
    login = {"auths": {proxy.host: {"auth": nobody, "identitytoken": IDENTITY}}}
    (tmp_path / "identity").write_text(json.dumps(login))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "identity"))
    make_image(tmp_path / "image", seed())
    assert registries().push(tmp_path / "image", parse_ref(f"{proxy.host}/identity/{way}:one", "it"))


@pytest.mark.parametrize("way", ["ours", "skopeo"])
def test_wrong_password_of_a_token_service_is_reported(
    token_place: tuple[TokenService, FaultyProxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    _, proxy = token_place
    monkeypatch.setenv(CLIENT, way)
    wrong = write_login(tmp_path / "wrong", proxy.host, password="not-it-at-all")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(wrong))
    make_image(tmp_path / "image", seed())
    ref = parse_ref(f"{proxy.host}/wrong/{way}:one", "it")
    error = refusal(lambda: registries().push(tmp_path / "image", ref))
    assert error.denied
    assert "log in: skopeo login" in error.hint
    assert "not-it-at-all" not in error.message + error.output + repr(error.__cause__)


def test_most_specific_log_in_is_used(
    token_place: tuple[TokenService, FaultyProxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, proxy = token_place
    right = {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
    wrong = {"auth": base64.b64encode(b"other:wrong").decode()}
    auths = {proxy.host: wrong, f"{proxy.host}/team": right, f"{proxy.host}/team/private/app": wrong}
    (tmp_path / "logins").write_text(json.dumps({"auths": auths}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "logins"))
    make_image(tmp_path / "image", seed())
    for name, is_right in (("team/app", True), ("other/app", False), ("team/private/app", False), ("team/x/y", True)):
        if is_right:
            push(tmp_path / "image", proxy.host, f"{name}:one")
        else:
            assert refusal(lambda name=name: push(tmp_path / "image", proxy.host, f"{name}:one")).denied


# other hosts, and hostile answers


@pytest.fixture
def closed(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A registry with a password that we have."""
    (tmp_path / "closed").mkdir()
    with serve_registry(tmp_path / "closed", password=True) as host, FaultyProxy(host) as proxy:
        insecure(home, proxy.host)
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(write_login(tmp_path / "right", proxy.host)))
        yield proxy


@pytest.mark.parametrize("status", [202, 307, 308])
def test_credentials_stay_with_the_registry(place: Place, closed: FaultyProxy, tmp_path: Path, status: int) -> None:
    make_image(tmp_path / "image", seed())
    elsewhere = f"http://{place.proxy.host}/v2/else/where/blobs/uploads/"
    closed.fault("POST", "/uploads/", Fault(status=status, headers={"Location": elsewhere}))
    with pytest.raises(RegistryError):  # what went elsewhere is not in the registry
        push(tmp_path / "image", closed.host, "travels/not:one")
    assert any("authorization" in one.headers for one in closed.requests)
    assert place.proxy.count() >= 3
    assert not any({"authorization", "cookie"} & one.headers.keys() for one in place.proxy.requests)


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "gopher://example.org/1",
        "https://user:word@example.org/x",
        "http://[::1",
        "http://x:99999999/",
        "/v2/" + "a" * 20_000,
        "/v2/a b",
        "http://example.org:0x50/",
    ],
)
def test_hostile_locations_are_not_followed(place: Place, tmp_path: Path, location: str) -> None:
    make_image(tmp_path / "image", seed())
    place.proxy.fault("POST", "/uploads/", Fault(status=202, headers={"Location": location}))
    error = refusal(lambda: push(tmp_path / "image", place.proxy.host, "hostile/one:one"))
    assert "not followed" in error.message
    assert place.proxy.count("PUT") == 0


def test_endless_redirects_end(place: Place) -> None:
    place.proxy.fault("HEAD", "/manifests/", Fault(status=307, headers={"Location": "/v2/some/name/manifests/one"}))
    error = refusal(lambda: registries().digest(place.ref()))
    assert "redirects without end" in error.message
    assert place.proxy.count("HEAD") < 10


def test_tls_is_never_left(home: Path, place: Place, tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    authority = make_authority(tmp_path / "ca")
    make_image(tmp_path / "image", seed())
    with FaultyProxy(place.upstream, authority) as proxy:
        trusted = home / "home/.config/containers/certs.d" / proxy.host
        trusted.mkdir(parents=True)
        (trusted / "ca.crt").write_bytes(authority.ca.read_bytes())
        push(tmp_path / "image", proxy.host, "by/tls:one")
        assert registries().digest(parse_ref(f"{proxy.host}/by/tls:one", "it"))
        make_image(tmp_path / "other", seed())
        plain = f"http://{place.proxy.host}/v2/by/tls/blobs/uploads/"
        proxy.fault("POST", "/uploads/", Fault(status=202, headers={"Location": plain}))
        error = refusal(lambda: push(tmp_path / "other", proxy.host, "by/tls:two"))
        assert "leads from TLS to plain HTTP" in error.message
        place.proxy.clear()
        proxy.clear()
        realm = f'Bearer realm="http://{place.proxy.host}/token",service="x"'
        proxy.fault("", "", Fault(status=401, headers={"WWW-Authenticate": realm}))
        error = refusal(lambda: registries().digest(parse_ref(f"{proxy.host}/by/tls:one", "it")))
        assert "token service without TLS" in error.message
        assert place.proxy.count() == 0


def test_registry_behind_a_proxy_that_ends_tls_is_followed(home: Path, place: Place, tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    authority = make_authority(tmp_path / "ca")
    make_image(tmp_path / "image", seed())
    with FaultyProxy(place.upstream, authority) as proxy:
        proxy.scheme = "http"  # so it writes addresses
        trusted = home / "home/.config/containers/certs.d" / proxy.host
        trusted.mkdir(parents=True)
        (trusted / "ca.crt").write_bytes(authority.ca.read_bytes())
        push(tmp_path / "image", proxy.host, "behind/proxy:one")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=401, headers={"WWW-Authenticate": "Bearer " + 'x="' * 3000}),
        Fault(status=401, headers={"WWW-Authenticate": 'Bearer realm="file:///etc/passwd"'}),
        Fault(status=401, headers={"WWW-Authenticate": 'Bearer service="no realm"'}),
        Fault(status=400, body=b'{"errors":' + b"[" * 100_000),
        Fault(status=400, body=b'{"errors":[{"code":{"a":1},"message":["\x1b[31m"]}]}'),
        Fault(status=400, body=b'{"errors":[{"code":"X","message":"\\u001b[31mred\\r\\nSet-Cookie: a"}]}'),
        Fault(status=400, body=b"x" * 50_000_000),
        Fault(status=299),
        Fault(status=200, headers={"Docker-Content-Digest": "sha256:../../etc"}, body=b"[" * 5_000_000),
    ],
)
def test_hostile_answers_are_one_short_message(place: Place, fault: Fault) -> None:
    place.proxy.fault("", "/v2/", fault)
    if fault.status == 200:
        assert registries().digest(place.ref()) == Digest.of(b"")  # too large to be read
        return
    error = refusal(lambda: registries().digest(place.ref()))
    assert len(error.message) < 700
    assert error.message.isprintable()


def test_another_manifest_than_was_sent_is_reported(place: Place, tmp_path: Path) -> None:
    make_image(tmp_path / "image", seed())
    other = {"Docker-Content-Digest": f"sha256:{'0' * 64}"}
    place.proxy.fault("PUT", "/manifests/", Fault(status=201, headers=other))
    error = refusal(lambda: push(tmp_path / "image", place.proxy.host, "swapped/one:one"))
    assert "stored another manifest" in error.message


def test_endless_interim_answers_end_at_the_time_limit() -> None:
    """No real registry does that: a few lines are the server."""
    import socket

    with socket.create_server(("127.9.9.9", 0)) as server:

        def flood() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    try:
                        while True:
                            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
                            time.sleep(0.01)
                    except OSError:
                        continue

        flooding = threading.Thread(target=flood)
        flooding.start()
        host = f"127.9.9.9:{server.getsockname()[1]}"
        insecure(Path.home().parent, host)
        client = RegistryClient(threading.Event(), RegistryTimeouts(look=1, waits=()))
        error = refusal(lambda: client.digest(parse_ref(f"{host}/a/b:c", "it")))
        flooding.join(10)
        assert not flooding.is_alive()
    assert error.down


# proxies, and what is left to skopeo


def test_http_proxy_is_used_except_where_it_must_not(
    place: Place, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_image(tmp_path / "image", seed())
    insecure(home, "registry.example.test:5000")
    with FaultyProxy(place.upstream) as proxy:  # takes absolute addresses, too
        monkeypatch.setenv("HTTP_PROXY", f"http://someone:secret-word@{proxy.host}")
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        ref = parse_ref("registry.example.test:5000/by/proxy:one", "it")
        client = registries()
        client.push(tmp_path / "image", ref)
        assert client.why_skopeo(ref) == ""
        assert all(one.path.startswith("http://registry.example.test:5000/v2/by/proxy/") for one in proxy.requests)
        expected = base64.b64encode(b"someone:secret-word").decode()
        assert {one.headers["proxy-authorization"] for one in proxy.requests} == {f"Basic {expected}"}
        monkeypatch.setenv("NO_PROXY", "example.test")
        error = refusal(lambda: registries().digest(ref))
        assert "no such host" in error.message
        assert "secret-word" not in error.message


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("HTTPS_PROXY", "socks5://127.0.0.1:1", "HTTPS_PROXY names no HTTP proxy, but socks5"),
        (CLIENT, "skopeo", f"{CLIENT} asks for it"),
        ("CONTAINERS_REGISTRIES_CONF", "/nowhere/at/all", "which does not exist"),
    ],
)
def test_what_is_not_understood_is_left_to_skopeo(
    place: Place, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, why: str
) -> None:
    host = "registry.example.test" if variable.endswith("PROXY") else place.proxy.host
    monkeypatch.setenv(variable, value)
    client = RegistryClient(threading.Event(), RegistryTimeouts(look=5, waits=()))
    ref = parse_ref(f"{host}/no/such:one", "it")
    with suppress(RegistryError):
        client.manifest(ref)
    assert why in client.why_skopeo(ref)


def test_unknown_kind_of_log_in_is_left_to_skopeo(place: Place) -> None:
    place.proxy.fault("", "/v2/", Fault(status=401, headers={"WWW-Authenticate": "Negotiate"}))
    client = registries()
    refusal(lambda: client.digest(place.ref()))
    assert client.why_skopeo(place.ref()).endswith("asks for a log-in of another kind")
    assert place.proxy.count("GET", "/v2/$")  # by skopeo
