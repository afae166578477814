"""The registry and the proxy of the other tests, used by skopeo."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from tests.faultyproxy import Fault, FaultyProxy
from tests.registry import make_authority, serve_registry, write_login

pytestmark = pytest.mark.tools  # starts a registry and skopeo

_LAYER = random.Random(7).randbytes(3_000_000)
_BLOB = f"/v2/some/name/blobs/sha256:{hashlib.sha256(_LAYER).hexdigest()}"


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[str]:
    with serve_registry(tmp_path) as host:
        yield host


@pytest.fixture
def proxy(upstream: str) -> Iterator[FaultyProxy]:
    with FaultyProxy(upstream) as proxy:
        yield proxy


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A `dir:` layout of one layer that no compressor gets smaller."""
    folder = tmp_path / "image"
    folder.mkdir()
    diff_id = f"sha256:{hashlib.sha256(_LAYER).hexdigest()}"
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    described = [
        {"mediaType": f"application/vnd.oci.image.{kind}", "size": len(data), "digest": _put(folder, data)}
        for kind, data in (("config.v1+json", json.dumps(config).encode()), ("layer.v1.tar", _LAYER))
    ]
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}
    whole = manifest | {"config": described[0], "layers": described[1:]}
    (folder / "manifest.json").write_text(json.dumps(whole))
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    return folder


def _put(folder: Path, data: bytes) -> str:
    hexes = hashlib.sha256(data).hexdigest()
    (folder / hexes).write_bytes(data)
    return f"sha256:{hexes}"


def _push(image: Path, host: str, *options: object) -> subprocess.CompletedProcess[str]:
    # "--preserve-digests" also keeps skopeo from compressing the layer
    fixed = ("skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests")
    if "--dest-cert-dir" not in options:
        fixed += ("--dest-tls-verify=false",)
    argv = (*fixed, *options, f"dir:{image}", f"docker://{host}/some/name:latest")
    return subprocess.run([str(word) for word in argv], capture_output=True, text=True)


def _get(host: str, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{host}{path}") as answer:
        return answer.read()


def test_proxy_forwards_a_push_and_counts_requests_and_bytes(image, upstream, proxy):
    _push(image, proxy.host).check_returncode()
    assert _get(upstream, _BLOB) == _LAYER
    assert all(proxy.host in one.headers["host"] for one in proxy.requests)
    uploaded = [one for one in proxy.requests if one.method in ("PATCH", "PUT") and "/blobs/" in one.path]
    blobs = [path for path in image.iterdir() if len(path.name) == 64]  # the config and the layer
    assert sum(one.up for one in uploaded) == sum(path.stat().st_size for path in blobs)
    assert proxy.count("PUT", "/manifests/latest$") == 1
    assert proxy.count("HEAD", _BLOB)
    assert {one.status for one in proxy.requests} >= {200, 201, 202, 404}
    proxy.clear()
    assert _get(proxy.host, _BLOB) == _LAYER
    assert [(one.method, one.path, one.status, one.down) for one in proxy.requests] == [
        ("GET", _BLOB, 200, len(_LAYER))
    ]


def test_one_connection_serves_many_requests(upstream, proxy):
    statuses, sockets = [], set()
    with closing(HTTPConnection(proxy.host)) as client:
        for method in ("GET", "HEAD", "GET"):
            client.request(method, "/v2/some/name/manifests/latest")
            sockets.add(client.sock)
            with client.getresponse() as answer:
                answer.read()
            statuses.append(answer.status)
    assert statuses == [404, 404, 404]
    assert len(sockets) == 1


def test_faults_apply_in_order_and_end(image, upstream, proxy):
    _push(image, upstream).check_returncode()
    proxy.fault("GET", "/blobs/", Fault(status=429, headers={"Retry-After": "7"}), times=2)
    proxy.fault("GET", "/blobs/", Fault(status=503), times=1)
    answers: list[tuple[int, str | None]] = []
    for _ in range(3):
        with pytest.raises(urllib.error.HTTPError) as caught:
            _get(proxy.host, _BLOB)
        answers.append((caught.value.code, caught.value.headers["Retry-After"]))
        caught.value.close()
    assert answers == [(429, "7"), (429, "7"), (503, None)]
    assert _get(proxy.host, _BLOB) == _LAYER
    assert [one.faulty for one in proxy.requests] == [True, True, True, False]


def test_proxy_cuts_changes_or_replaces_an_answer(image, upstream, proxy):
    _push(image, upstream).check_returncode()
    proxy.fault("GET", "/blobs/", Fault(cut_down=1_000_000), times=1)
    proxy.fault("GET", "/blobs/", Fault(cut_down=0), times=1)
    proxy.fault("GET", "/blobs/", Fault(flip=2_000_000), times=1)
    proxy.fault("GET", "/manifests/", Fault(status=200, body=b"[" * 5_000_000, headers={"Content-Type": "x/y"}))
    for most in (1_000_000, 0):
        with pytest.raises((HTTPException, OSError)):
            _get(proxy.host, _BLOB)
        assert proxy.requests[-1].down == most
    assert proxy.requests[-1].status == 0
    turned = _get(proxy.host, _BLOB)
    assert [at for at, (one, other) in enumerate(zip(turned, _LAYER, strict=True)) if one != other] == [2_000_000]
    assert _get(proxy.host, "/v2/some/name/manifests/latest") == b"[" * 5_000_000


def test_proxy_cuts_off_an_upload(image, upstream, proxy):
    proxy.fault("PATCH", "/blobs/", Fault(cut_up=1_000_000))
    assert _push(image, proxy.host).returncode != 0
    assert any(one.method == "PATCH" and one.up >= 1_000_000 and not one.status for one in proxy.requests)
    assert proxy.count("PUT", "/manifests/") == 0
    with pytest.raises(urllib.error.HTTPError) as caught:
        _get(upstream, _BLOB)
    caught.value.close()


def test_slow_answers_end_with_the_proxy(image, upstream):
    _push(image, upstream).check_returncode()
    outcome = []

    def ask(path: str) -> None:
        try:
            outcome.append(_get(proxy.host, path))
        except (OSError, HTTPException) as error:
            outcome.append(error)

    with FaultyProxy(upstream) as proxy:
        proxy.fault("GET", "/blobs/", Fault(rate=100))
        proxy.fault("GET", "/tags/", Fault(delay=3600))
        asking = [threading.Thread(target=ask, args=(path,)) for path in (_BLOB, "/v2/some/name/tags/list")]
        for one in asking:
            one.start()
        while proxy.count() < 2 or not any(one.down for one in proxy.requests):
            time.sleep(0.01)
        assert not outcome
    for one in asking:
        one.join()
    assert len(outcome) == 2


def test_registry_requires_a_password_and_a_certificate(image, tmp_path):
    folder = tmp_path / "tls"
    folder.mkdir()
    authority = make_authority(folder)
    with serve_registry(tmp_path, password=True, authority=authority) as host:
        right = write_login(tmp_path / "right.json", host)
        wrong = write_login(tmp_path / "wrong.json", host, password="wrong")
        assert "x509" in _push(image, host, "--dest-cert-dir", tmp_path / "none", "--authfile", right).stderr
        assert "unauthorized" in _push(image, host, "--dest-cert-dir", folder, "--authfile", wrong).stderr
        _push(image, host, "--dest-cert-dir", folder, "--authfile", right).check_returncode()


def test_proxy_serves_tls(image, tmp_path, upstream):
    folder = tmp_path / "tls"
    folder.mkdir()
    authority = make_authority(folder)
    with FaultyProxy(upstream, authority) as proxy:
        assert "x509" in _push(image, proxy.host, "--dest-cert-dir", tmp_path / "none").stderr
        _push(image, proxy.host, "--dest-cert-dir", folder).check_returncode()
        assert proxy.count("PUT", "/manifests/") == 1
    assert _get(upstream, _BLOB) == _LAYER


def test_registry_serves_its_folder_again_read_only_or_deletable(image, tmp_path):
    with serve_registry(tmp_path) as host:
        _push(image, host).check_returncode()
    with serve_registry(tmp_path, writable=False) as host:
        assert _get(host, _BLOB) == _LAYER
        (image / "manifest.json").write_text((image / "manifest.json").read_text() + "\n")
        failed = _push(image, host)
        assert failed.returncode == 1
        assert "405" in failed.stderr or "unsupported" in failed.stderr
    with serve_registry(tmp_path, deletable=True) as host:
        argv = ("skopeo", "delete", "--tls-verify=false", f"docker://{host}/some/name:latest")
        subprocess.run(argv, check=True, capture_output=True)
        with pytest.raises(urllib.error.HTTPError) as caught:
            _get(host, "/v2/some/name/manifests/latest")
        caught.value.close()
