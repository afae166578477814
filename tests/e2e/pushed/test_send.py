"""Layers are uploaded while others are built; the final push gives the same image even if uploads fail."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.machines import digest, forget, interrupt_when, is_there, read_manifest, succeeded, trust, uploaded
from tests.e2e.tinyproject import SLOW, SessionResult, Tiny, one_error
from tests.faultyproxy import Fault, FaultyProxy
from tests.registry import serve_registry

pytestmark = pytest.mark.tools

_EAGER = (
    SLOW.replace("0.3", "0.6") + "from buildkit.remote import blob_upload; blob_upload.MIN_UPLOAD_BYTES = 1; "
)  # tiny layers are worth it, too
_REVISIONS = "data/docker/registry/v2/repositories/some/name/_manifests"
_DENIED = Fault(status=403, body=b'{"errors":[{"code":"DENIED","message":"requested access is denied"}]}')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a registry."""
    (tmp_path / "registry").mkdir()
    return tmp_path / "registry"


def push_early(tiny: Tiny, *arguments: str) -> SessionResult:
    with tiny.after(_EAGER):
        return tiny.run("push-app", *arguments, "--jobs", "1")


def sent(ended: SessionResult) -> list[str]:
    """Names of the layers that were uploaded early."""
    assert ended.report is not None, ended.text
    layers = {layer["name"] for layer in ended.report["layers"]}
    found = [line.split()[1] for line in ended.text.splitlines() if re.match(r" +push  \S", line)]
    return [name for name in found if name in layers]


def test_layers_are_uploaded_while_others_are_built(
    make_tiny: Callable[[], Tiny], registry: str, folder: Path, proxy: FaultyProxy
) -> None:
    eager, patient = make_tiny(), make_tiny()
    with serve_registry(folder) as host, FaultyProxy(host) as counted:
        trust(eager, registry, counted.host)
        ended = succeeded(push_early(eager, f"{counted.host}/some/name:one"))
        early = sent(ended)
        assert "base/image" in early
        assert len(early) < 9  # what is made last goes up with the rest
        assert set(read_manifest(eager, f"{counted.host}/some/name:one")) >= {"config", "layers"}
        # each byte went up once, is counted, and nothing but the image has a manifest
        blobs = [one.path for one in counted.requests if one.method == "PUT" and "/blobs/uploads/" in one.path]
        assert len(blobs) == 9 + 1  # layers and config
        pushed = ended.report["bytes"]["pushed"]
        assert pushed <= uploaded(counted) < 1.02 * pushed + 3000
        assert [path.name for path in (folder / _REVISIONS / "tags").iterdir()] == ["one"]
        assert len(list((folder / _REVISIONS / "revisions/sha256").iterdir())) == 1
    trust(patient, registry, proxy.host)
    late = succeeded(patient.run("push-app", f"{proxy.host}/patient/name:one"))
    assert sent(late) == []  # they are small
    assert digest(late) == digest(ended)
    assert late.report["bytes"]["pushed"] == pushed


def test_single_changed_layer_is_uploaded_with_the_image(tiny: Tiny, proxy: FaultyProxy) -> None:
    repo = f"{proxy.host}/one/changed"
    forget(tiny)
    assert sent(succeeded(push_early(tiny, f"{repo}:one"))) != []
    tiny.write("stages/app/app/main.sh", 'echo "$GREETING alone"\n')
    assert sent(succeeded(push_early(tiny, f"{repo}:one"))) == []


def test_registry_that_denies_uploads_is_reported_once(tiny: Tiny, proxy: FaultyProxy, sends: str) -> None:
    forget(tiny)
    repo = f"{proxy.host}/takes/no-{sends.lower()}"
    proxy.fault("POST", "/uploads/", _DENIED)
    ended = push_early(tiny, f"{repo}:one")
    message = one_error(ended, 1)
    assert 1 <= ended.text.count("left to the push at the end") <= 2  # two at once, then no more
    assert f"{proxy.host}: pushing {repo}:one failed: " in message
    lines = [line for line in ended.text.splitlines() if "denied" in line]
    assert len(lines) == 2  # where the step failed, and at the end
    proxy.clear()
    assert succeeded(tiny.run("push-app", f"{repo}:one")).built() == {}  # all was made


def test_nothing_is_uploaded_to_a_registry_that_is_down(tiny: Tiny, proxy: FaultyProxy, sends: str) -> None:
    forget(tiny)
    proxy.fault("", "/v2/", Fault(status=503, body=b""))
    ended = push_early(tiny, f"{proxy.host}/is/down-{sends.lower()}:one")
    assert "503" in one_error(ended, 1)
    assert proxy.count("POST") == proxy.count("HEAD", "/blobs/") == 0
    looked = proxy.count("HEAD", "/manifests/") + proxy.count("GET", "/v2/$")
    assert looked == 1 + 4  # the lookup during the build, and the push with its retries


def test_failed_build_tags_nothing(make_tiny: Callable[[], Tiny], registry: str, folder: Path) -> None:
    tiny = make_tiny()
    with serve_registry(folder) as host:
        trust(tiny, registry, host)
        with tiny.after(_EAGER):
            ended = tiny.run("push-app", f"{host}/some/name:one", "--jobs", "1", PIP_FIND_LINKS="/nowhere")
        assert "no index and no find-links has" in one_error(ended, 1)
        assert any((folder / "data/docker/registry/v2/blobs").rglob("data"))  # something had gone up
        assert not (folder / _REVISIONS).exists()
    assert tiny.left_over() == []


def test_interrupted_build_leaves_nothing(tiny: Tiny, proxy: FaultyProxy, sends: str) -> None:
    forget(tiny)
    proxy.fault(sends, "/uploads/", Fault(delay=3600))
    with tiny.after(_EAGER):
        session = ("push-app", f"{proxy.host}/is/{sends.lower()}:one", "--jobs", "1")
        ended = interrupt_when(tiny, session, lambda: proxy.count(sends, "/uploads/") > 0)
    assert ended.code == 130, ended.text
    assert "Traceback" not in ended.text
    proxy.clear()
    assert not is_there(tiny, f"{proxy.host}/is/{sends.lower()}:one")
    succeeded(push_early(tiny, f"{proxy.host}/is/{sends.lower()}:one"))
    assert len(read_manifest(tiny, f"{proxy.host}/is/{sends.lower()}:one")["layers"]) == 9


def test_published_layers_are_uploaded_once_and_while_others_are_built(
    make_tiny: Callable[[], Tiny], registry: str, folder: Path
) -> None:
    tiny = make_tiny()
    with serve_registry(folder) as host, FaultyProxy(host) as counted:
        trust(tiny, registry, counted.host)
        ended = succeeded(
            push_early(tiny, f"{counted.host}/some/cache:one", "--cache-write", f"{counted.host}/some/cache")
        )
        lines = [line.split()[:2] for line in ended.text.splitlines()]
        steps = [line[0] for line in lines if line]
        assert steps.index("share") < len(steps) - 1 - steps[::-1].index("pack")
        assert sorted(name for phase, name in filter(None, lines) if phase == "share") == sorted(
            layer["name"] for layer in ended.report["layers"]
        )
        blobs = [one.path for one in counted.requests if one.method == "PUT" and "/blobs/uploads/" in one.path]
        assert len(blobs) == len(set(blobs))
        assert sent(ended) == []
