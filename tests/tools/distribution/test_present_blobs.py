"""Pushes that do not ask for what the manifest of a name lists, to a real registry that may have lost some of it."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from buildkit.digest import Digest
from buildkit.errors import BlobsMissingError
from buildkit.tools.push_details import PushDetails
from buildkit.tools.registry import CLIENT
from buildkit.tools.skopeo import write_layout
from tests.faultyproxy import Fault
from tests.registryplace import MANIFEST, Place, answer, make_image, refusal, registries

pytestmark = [pytest.mark.tools, pytest.mark.usefixtures("home")]

INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
_SOME = {"mediaType": CONFIG, "size": 2, "digest": f"sha256:{'5' * 64}"}


def push_image(place: Place, folder: Path, name: str) -> tuple[Digest, ...]:
    """Push an image, and forget the requests; return its layers."""
    digests = make_image(folder, random.randrange(1 << 30))
    registries().push(folder, place.ref(name))
    place.proxy.clear()
    return digests


def lose(place: Place, name: str, digest: Digest) -> None:
    """Take a blob from a repository, which keeps the manifests that list it."""
    shutil.rmtree(place.folder / "data/docker/registry/v2/repositories" / name / "_layers/sha256" / digest.hex)


def listed(place: Place, name: str) -> PushDetails:
    return PushDetails(present=registries().listed_blobs(place.ref(name)))


def document(**members: object) -> bytes:
    value = {"schemaVersion": 2, "mediaType": MANIFEST, "config": _SOME, "layers": [_SOME]} | members
    return json.dumps(value).encode()


def test_blobs_of_the_manifest_that_is_there_are_not_asked_for(place: Place, tmp_path: Path) -> None:
    push_image(place, tmp_path / "image", "present/all:one")
    manifest = json.loads((tmp_path / "image/manifest.json").read_bytes())
    new = b"one more layer"
    manifest["layers"].append({"mediaType": manifest["layers"][0]["mediaType"], "size": len(new)})
    manifest["layers"][-1]["digest"] = str(Digest.of(new))
    (tmp_path / "image" / Digest.of(new).hex).write_bytes(new)
    (tmp_path / "image/manifest.json").write_text(json.dumps(manifest))
    details = listed(place, "present/all:one")
    assert registries().push(tmp_path / "image", place.ref("present/all:one"), details) == (Digest.of(new),)
    assert [one.method for one in place.proxy.requests] == ["GET", "POST", "PUT", "PUT"]
    assert registries().manifest(place.ref("present/all:one")) == (tmp_path / "image/manifest.json").read_bytes()


def test_lost_blob_that_is_here_goes_up_although_it_is_listed(place: Place, tmp_path: Path) -> None:
    kept, gone = push_image(place, tmp_path / "image", "lost/here:one")
    lose(place, "lost/here", gone)
    details = listed(place, "lost/here:one")
    assert {kept, gone} <= details.present
    assert registries().push(tmp_path / "image", place.ref("lost/here:two"), details) == (gone,)
    refused, stored = (one.status for one in place.proxy.requests if "/manifests/two" in one.path)
    assert (refused in (400, 404), stored) == (True, 201)
    assert place.proxy.count("HEAD", "/blobs/") == 3
    registries().fetch(place.ref("lost/here:two"), tmp_path / "fetched")


def test_lost_blob_that_is_elsewhere_is_mounted(place: Place, tmp_path: Path) -> None:
    _, gone = push_image(place, tmp_path / "image", "lost/mounted:one")
    registries().push(tmp_path / "image", place.ref("lost/from:one"))
    lose(place, "lost/mounted", gone)
    (tmp_path / "image" / gone.hex).unlink()
    details = PushDetails(present=listed(place, "lost/mounted:one").present, mounts=lambda _digest: "lost/from")
    place.proxy.clear()
    assert registries().push(tmp_path / "image", place.ref("lost/mounted:two"), details) == ()
    assert place.proxy.count("POST", "mount=") == 1
    assert place.proxy.count("PUT", "/manifests/two") == 2
    registries().fetch(place.ref("lost/mounted:two"), tmp_path / "fetched")


def test_lost_blob_that_is_not_here_is_named(place: Place, tmp_path: Path) -> None:
    kept, gone = push_image(place, tmp_path / "image", "lost/everywhere:one")
    lose(place, "lost/everywhere", gone)
    for digest in (kept, gone):
        (tmp_path / "image" / digest.hex).unlink()
    with pytest.raises(BlobsMissingError) as caught:
        registries().push(tmp_path / "image", place.ref("lost/everywhere:two"), listed(place, "lost/everywhere:one"))
    assert caught.value.digests == (gone.hex,)  # and not what the registry has
    assert place.proxy.count("PUT", "/manifests/") == 1


@pytest.mark.parametrize("code", ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_INVALID"])
def test_refused_manifest_is_put_once_more_and_no_more(place: Place, tmp_path: Path, code: str) -> None:
    push_image(place, tmp_path / "image", "refused/once:one")
    details = listed(place, "refused/once:one")
    place.proxy.fault("PUT", "/manifests/", answer(400, code), times=1)
    assert registries().push(tmp_path / "image", place.ref("refused/once:two"), details) == ()
    place.proxy.clear()
    place.proxy.fault("PUT", "/manifests/", answer(400, code, "no, never"))
    error = refusal(lambda: registries().push(tmp_path / "image", place.ref("refused/once:three"), details))
    assert "no, never" in error.message
    assert [one.method for one in place.proxy.requests] == ["PUT", "HEAD", "HEAD", "HEAD", "PUT"]
    place.proxy.requests.clear()  # nothing was believed, so nothing is asked again
    refusal(lambda: registries().push(tmp_path / "image", place.ref("refused/once:three")))
    assert place.proxy.count("PUT", "/manifests/") == 1


def test_index_and_artifact_list_nothing(place: Place, tmp_path: Path) -> None:
    push_image(place, tmp_path / "image", "other/kinds:image")
    (tmp_path / "index").mkdir()
    manifest = (tmp_path / "image/manifest.json").read_bytes()
    entry = {"mediaType": MANIFEST, "size": len(manifest), "digest": str(Digest.of(manifest))}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    write_layout(tmp_path / "index", json.dumps(index).encode())
    registries().push_index(tmp_path / "index", place.ref("other/kinds:index"))
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "digest": str(Digest.of(b"{}"))}
    artifact = json.loads(manifest) | {"config": empty, "artifactType": "application/vnd.tests"}
    write_layout(tmp_path / "image", json.dumps(artifact).encode(), b"{}")
    registries().push(tmp_path / "image", place.ref("other/kinds:artifact"))
    for tag, count in (("image", 3), ("index", 0), ("artifact", 0), ("none", 0)):
        assert len(registries().listed_blobs(place.ref(f"other/kinds:{tag}"))) == count


def test_index_of_manifests_that_are_not_there_is_refused(place: Place, tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    entry = {"mediaType": MANIFEST, "size": 2, "digest": str(Digest.of(b"{}"))}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    write_layout(tmp_path / "index", json.dumps(index).encode())
    error = refusal(lambda: registries().push_index(tmp_path / "index", place.ref("lost/index:one")))
    assert "unknown" in error.message


HOSTILE = {
    "nothing": b"",
    "no JSON": b"<html>",
    "deep": b"[" * 100_000,
    "too large": document(annotations={"a": "x" * 5_000_000}),
    "a list": b"[]",
    "no config": document(config=None),
    "config that is no object": document(config=[]),
    "config of no type": document(config={"digest": _SOME["digest"], "size": 2}),
    "config of a hostile type": document(config=_SOME | {"mediaType": {}}),
    "no layers": document(layers=None),
    "layers that are no list": document(layers={"0": _SOME}),
    "too many layers": document(layers=[_SOME] * 10_001),
    "digest that is none": document(layers=[_SOME | {"digest": "sha256:../../etc/passwd"}]),
    "digest that is a number": document(layers=[_SOME | {"digest": 5}]),
    "size below nothing": document(layers=[_SOME | {"size": -1}]),
    "enormous number": document().replace(b'"size": 2', b'"size": ' + b"9" * 10_000),
    "key twice": document().replace(b'"layers"', b'"layers": [], "layers"'),
    "schema 1": document(schemaVersion=1),
    "another media type": document(mediaType="application/vnd.docker.distribution.manifest.v1+prettyjws"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_manifest_lists_nothing(place: Place, what: str) -> None:
    place.proxy.fault("GET", "/manifests/", Fault(status=200, body=HOSTILE[what]), times=1)
    assert registries().listed_blobs(place.ref()) == frozenset()
    place.proxy.fault("GET", "/manifests/", Fault(status=200, body=document()))
    assert registries().listed_blobs(place.ref()) == {Digest.parse(str(_SOME["digest"]))}


@pytest.mark.parametrize("fault", [*(Fault(status=status) for status in (401, 403, 404, 429, 503)), Fault(cut_down=0)])
def test_manifest_that_cannot_be_read_lists_nothing(place: Place, fault: Fault) -> None:
    place.proxy.fault("GET", "/manifests/", fault)
    assert registries().listed_blobs(place.ref()) == frozenset()
    assert place.proxy.count("GET", "/manifests/") == 1  # no retries


def test_skopeo_is_not_asked_for_what_is_listed(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push_image(place, tmp_path / "image", "by/skopeo:one")
    assert registries().listed_blobs(place.ref("by/skopeo:one"))
    place.proxy.clear()
    monkeypatch.setenv(CLIENT, "skopeo")
    assert registries().listed_blobs(place.ref("by/skopeo:one")) == frozenset()
    assert place.proxy.count() == 0
