"""Attestations and signatures attached to an image in a real registry; attachments of others stay."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machines import digest, is_there, put_entry, read_manifest, succeeded, trust
from tests.e2e.tinyproject import SessionResult, Tiny, one_error
from tests.faultyproxy import Fault, FaultyProxy

pytestmark = pytest.mark.tools

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
STATEMENT = "application/vnd.in-toto+json"
CYCLONEDX = "https://cyclonedx.org/bom"
SLSA = "https://slsa.dev/provenance/v1"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs of keys, as openssl makes them: ``one`` and ``two``, each with its ``.pub``."""
    folder = tmp_path_factory.mktemp("keys")
    new = ("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    for name in ("one", "two"):
        subprocess.run((*new, "-out", folder / name), check=True, capture_output=True)
        subprocess.run(("openssl", "pkey", "-in", folder / name, "-pubout", "-out", folder / f"{name}.pub"), check=True)
    return folder


def push(tiny: Tiny, ref: str, *arguments: str) -> SessionResult:
    return succeeded(tiny.run("push-app", ref, *arguments))


def tag_of(pushed: SessionResult) -> str:
    return digest(pushed).replace(":", "-")


def verdict(tiny: Tiny, ref: str, *arguments: str, stage: str = "app") -> dict[str, Any]:
    """Run verify-image; return its result, with attachments by kind."""
    ended = tiny.run("verify-image", stage, ref, "--json", *arguments)
    found: dict[str, Any]
    assert "{" in ended.text, ended.text
    found, _ = json.JSONDecoder().raw_decode(ended.text[ended.text.index("{") :])
    assert ended.code == (0 if found["holds"] else 1), ended.text
    return {**found, "attached": {one["kind"]: one for one in found["attached"]}}


def states(found: dict[str, Any]) -> dict[str, str]:
    return {kind: one["state"] for kind, one in found["attached"].items()}


def blob(tiny: Tiny, ref: str, folder: Path) -> bytes:
    """The one blob of an artifact."""
    tiny.tool("skopeo", "--insecure-policy", "copy", "--quiet", f"docker://{ref}", f"dir:{folder}")
    (layer,) = json.loads((folder / "manifest.json").read_bytes())["layers"]
    return (folder / layer["digest"].removeprefix("sha256:")).read_bytes()


def artifact(
    subject: str, data: bytes, predicate: str, kind: str = STATEMENT, size: int = -1
) -> tuple[bytes, dict[str, Any]]:
    """Return a foreign attestation: its manifest, and its line in an index."""
    descriptor = {
        "mediaType": kind,
        "digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
        "size": len(data) if size < 0 else size,
    }
    empty = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}",
        "size": 2,
    }
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": STATEMENT,
            "config": empty,
            "layers": [descriptor],
            "subject": {"mediaType": MANIFEST, "digest": subject, "size": 1},
            "annotations": {"in-toto.io/predicate-type": predicate},
        }
    ).encode()
    line = {
        "mediaType": MANIFEST,
        "digest": f"sha256:{hashlib.sha256(manifest).hexdigest()}",
        "size": len(manifest),
        "annotations": {"in-toto.io/predicate-type": predicate},
    }
    return manifest, line


def put_index(tiny: Tiny, folder: Path, ref: str, lines: list[dict[str, Any]]) -> None:
    folder.mkdir()
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": lines}
    (folder / "manifest.json").write_text(json.dumps(index))
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    argv = ("copy", "--quiet", "--multi-arch", "index-only", f"dir:{folder}", f"docker://{ref}")
    tiny.tool("skopeo", "--insecure-policy", *argv)


def put_attestation(
    tiny: Tiny, folder: Path, repo: str, pushed: SessionResult, data: bytes, *, of: str = "", **how: Any
) -> None:
    """Put an attestation of the provenance's kind in place of all that is listed."""
    manifest, line = artifact(of or digest(pushed), data, SLSA, **how)
    put_entry(tiny, folder, f"{repo}@{line['digest']}", manifest, data, b"{}")
    put_index(tiny, folder.with_name(f"{folder.name}-index"), f"{repo}:{tag_of(pushed)}", [line])


def test_attestations_are_referrers_and_agree_with_the_locks(tiny: Tiny, repo: str, tmp_path: Path) -> None:
    pushed = push(tiny, f"{repo}:one", "--attest", "--tag", "two")
    index = read_manifest(tiny, f"{repo}:{tag_of(pushed)}")
    assert index["mediaType"] == INDEX
    kinds = {one["annotations"]["in-toto.io/predicate-type"]: one["digest"] for one in index["manifests"]}
    assert kinds.keys() == {CYCLONEDX, SLSA}
    for number, (kind, one) in enumerate(kinds.items()):
        manifest = read_manifest(tiny, f"{repo}@{one}")
        assert manifest["subject"]["digest"] == digest(pushed)
        assert manifest["artifactType"] == STATEMENT
        statement = json.loads(blob(tiny, f"{repo}@{one}", tmp_path / str(number)))
        assert statement["predicateType"] == kind
        assert statement["subject"] == [{"name": repo, "digest": {"sha256": digest(pushed).removeprefix("sha256:")}}]
    provenance = statement["predicate"]
    layers = [row for one in provenance["runDetails"]["byproducts"] for row in one["annotations"]["layers"]]
    assert [row["digest"] for row in layers] == [layer["digest"] for layer in pushed.report["layers"]]
    recipe = json.loads(base64.b64decode(provenance["runDetails"]["byproducts"][-1]["content"]))
    assert recipe["kind"] == "files"
    commit = subprocess.run(
        ("git", "rev-parse", "HEAD"), cwd=tiny.project, env=tiny.env, capture_output=True, text=True
    )
    assert provenance["buildDefinition"]["externalParameters"] == {
        "stage": "app",
        "commit": commit.stdout.strip(),
        "dirty": False,
    }
    found = verdict(tiny, f"{repo}:two", "--attested")
    assert found["holds"]
    assert states(found) == {"signature": "missing", "sbom": "good", "provenance": "good"}


def test_attaching_twice_changes_nothing_and_another_commit_replaces(tiny: Tiny, proxy: FaultyProxy, repo: str) -> None:
    pushed = push(tiny, f"{repo}:one", "--attest")
    before = read_manifest(tiny, f"{repo}:{tag_of(pushed)}")
    proxy.clear()
    push(tiny, f"{repo}:one", "--attest")
    assert proxy.count("PUT") == proxy.count("PATCH") == 0
    tiny.git("commit", "--quiet", "--allow-empty", "--message=Nothing")
    assert digest(push(tiny, f"{repo}:one", "--attest")) == digest(pushed)
    after = read_manifest(tiny, f"{repo}:{tag_of(pushed)}")
    assert len(after["manifests"]) == len(before["manifests"]) == 2
    assert after != before
    assert verdict(tiny, f"{repo}:one", "--attested")["holds"]


def test_missing_attestations_are_reported_and_refused_if_required(tiny: Tiny, repo: str, keys: Path) -> None:
    push(tiny, f"{repo}:one")
    found = verdict(tiny, f"{repo}:one")
    assert found["holds"]
    assert states(found) == dict.fromkeys(("signature", "sbom", "provenance"), "missing")
    text = tiny.run("verify-image", "app", f"{repo}:one").text
    assert "signature: the image is not signed" in text
    assert "provenance: none is attached" in text
    assert not verdict(tiny, f"{repo}:one", "--attested")["holds"]
    assert not verdict(tiny, f"{repo}:one", "--key", str(keys / "one.pub"))["holds"]


def test_signature_must_be_by_this_key_and_of_this_image(tiny: Tiny, repo: str, keys: Path) -> None:
    pushed = push(tiny, f"{repo}:one", "--attest", "--sign-by", str(keys / "one"), "--sign-tags")
    good = verdict(tiny, f"{repo}:one", "--attested", "--key", str(keys / "one.pub"), "--signed-tag")
    assert good["holds"]
    assert {one["signed"] for one in good["attached"].values()} == {True}
    other = verdict(tiny, f"{repo}:one", "--key", str(keys / "two.pub"))
    assert not other["holds"]
    assert set(states(other).values()) == {"refused"}
    # under a tag that is not signed, and as another stage
    tiny.tool("skopeo", "--insecure-policy", "copy", "--quiet", f"docker://{repo}:one", f"docker://{repo}:deps")
    retagged = verdict(tiny, f"{repo}:deps", "--key", str(keys / "one.pub"), stage="deps")
    assert not retagged["holds"]
    assert retagged["attached"]["signature"]["why"] == "it is signed as `app`, not as `deps`"
    assert verdict(tiny, f"{repo}:deps", "--key", str(keys / "one.pub"))["holds"]
    assert not verdict(tiny, f"{repo}:deps", "--key", str(keys / "one.pub"), "--signed-tag")["holds"]
    # a second key signs, too; both signatures count, and no attachment is lost
    push(tiny, f"{repo}:one", "--attest", "--sign-by", str(keys / "two"))
    assert len(read_manifest(tiny, f"{repo}:{tag_of(pushed)}")["manifests"]) == 4
    assert len(read_manifest(tiny, f"{repo}:{tag_of(pushed)}.sig")["layers"]) == 3
    assert len(read_manifest(tiny, f"{repo}:{tag_of(pushed)}.att")["layers"]) == 4
    for name in ("one", "two"):
        found = verdict(tiny, f"{repo}:one", "--attested", "--key", str(keys / f"{name}.pub"))
        assert found["holds"], found
    # another image under the old one's signature
    tiny.write("stages/app/app/words.txt", "other words\n")
    other_image = push(tiny, f"{repo}:other")
    folder = tiny.folder / "moved"
    tiny.tool(
        "skopeo", "--insecure-policy", "copy", "--quiet", f"docker://{repo}:{tag_of(pushed)}.sig", f"dir:{folder}"
    )
    moved = f"docker://{repo}:{tag_of(other_image)}.sig"
    tiny.tool("skopeo", "--insecure-policy", "copy", "--quiet", f"dir:{folder}", moved)
    found = verdict(tiny, f"{repo}:other", "--key", str(keys / "one.pub"))
    assert found["attached"]["signature"]["why"] == "its signatures are of another image, another name or another stage"


def test_signed_payload_is_that_of_cosign(tiny: Tiny, repo: str, keys: Path, tmp_path: Path) -> None:
    """Tags, types and texts as cosign and containers/image have them, and signatures that openssl verifies."""
    pushed = push(tiny, f"{repo}:one", "--attest", "--sign-by", str(keys / "one"))
    signed = read_manifest(tiny, f"{repo}:{tag_of(pushed)}.sig")
    (layer,) = signed["layers"]
    assert layer["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"
    claim = blob(tiny, f"{repo}:{tag_of(pushed)}.sig", tmp_path / "claim")
    assert json.loads(claim) == {
        "critical": {
            "identity": {"docker-reference": repo},
            "image": {"docker-manifest-digest": digest(pushed)},
            "type": "cosign container image signature",
        },
        "optional": {"stage": "app"},
    }
    verify(keys / "one.pub", claim, layer["annotations"]["dev.cosignproject.cosign/signature"], tmp_path)
    folder = tmp_path / "attested"
    attested = f"docker://{repo}:{tag_of(pushed)}.att"
    tiny.tool("skopeo", "--insecure-policy", "copy", "--quiet", attested, f"dir:{folder}")
    layers = json.loads((folder / "manifest.json").read_bytes())["layers"]
    assert [one["annotations"]["predicateType"] for one in layers] == [CYCLONEDX, SLSA]
    for one in layers:
        assert one["mediaType"] == "application/vnd.dsse.envelope.v1+json"
        envelope = json.loads((folder / one["digest"].removeprefix("sha256:")).read_bytes())
        body = base64.b64decode(envelope["payload"])
        signed_bytes = b"DSSEv1 28 application/vnd.in-toto+json %d %b" % (len(body), body)
        verify(keys / "one.pub", signed_bytes, envelope["signatures"][0]["sig"], tmp_path)


def verify(key: Path, data: bytes, signature: str, folder: Path) -> None:
    (folder / "data").write_bytes(data)
    (folder / "signature").write_bytes(base64.b64decode(signature))
    argv = ("openssl", "dgst", "-sha256", "-verify", key, "-signature", folder / "signature", folder / "data")
    subprocess.run(argv, check=True, capture_output=True)


def test_attachments_of_others_stay(tiny: Tiny, repo: str, tmp_path: Path, keys: Path) -> None:
    pushed = push(tiny, f"{repo}:one")
    theirs, line = artifact(digest(pushed), b'{"their":"words"}', "https://example.org/predicate")
    line["annotations"]["their"] = "note"
    put_entry(tiny, tmp_path / "theirs", f"{repo}@{line['digest']}", theirs, b'{"their":"words"}', b"{}")
    put_index(tiny, tmp_path / "index", f"{repo}:{tag_of(pushed)}", [line])
    push(tiny, f"{repo}:one", "--attest", "--sign-by", str(keys / "one"))
    push(tiny, f"{repo}:one", "--attest")  # which is not signed, and takes nothing away from what is
    listed = read_manifest(tiny, f"{repo}:{tag_of(pushed)}")["manifests"]
    assert listed[0] == line
    assert len(listed) == 5
    assert verdict(tiny, f"{repo}:one", "--attested", "--key", str(keys / "one.pub"))["holds"]


def test_attestations_of_other_images_and_changed_ones_are_refused(
    tiny: Tiny, repo: str, tmp_path: Path, keys: Path
) -> None:
    pushed = push(tiny, f"{repo}:one", "--attest")
    (one,) = (
        one["digest"]
        for one in read_manifest(tiny, f"{repo}:{tag_of(pushed)}")["manifests"]
        if one["annotations"]["in-toto.io/predicate-type"] == SLSA
    )
    statement = json.loads(blob(tiny, f"{repo}@{one}", tmp_path / "ours"))

    def refuse(name: str, why: str, *arguments: str, of: str = "", data: bytes = b"", **how: Any) -> None:
        put_attestation(tiny, tmp_path / name, repo, pushed, data or json.dumps(statement).encode(), of=of, **how)
        found = verdict(tiny, f"{repo}:one", *arguments)
        assert not found["holds"]
        assert found["attached"]["provenance"]["state"] == "refused"
        assert why in found["attached"]["provenance"]["why"], found["attached"]

    refuse("nested", "the statement is not JSON", data=b"[" * 100_000)
    refuse("moved", "it is attached to another image", of="sha256:" + "a" * 64)
    refuse("unsigned", "it is not signed", "--key", str(keys / "one.pub"))
    refuse("large", "it is larger than 33554432 bytes", size=33 << 20)
    pins = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    pins.append({"name": "\x1b[31mevil", "uri": "pkg:pypi/evil@1"})
    refuse("pins", "evil")
    assert "\x1b" not in tiny.run("verify-image", "app", f"{repo}:one").text
    pins.pop()
    statement["subject"][0]["digest"]["sha256"] = "b" * 64
    refuse("subject", "it is about another image")
    # a payload that was changed under a good signature
    signed = push(tiny, f"{repo}:one", "--attest", "--sign-by", str(keys / "one"))
    (envelope,) = (
        line["digest"]
        for line in read_manifest(tiny, f"{repo}:{tag_of(signed)}")["manifests"]
        if line["annotations"]["in-toto.io/predicate-type"] == SLSA
        and line["annotations"].get("io.xoe.buildkit.signed-by")
    )
    value = json.loads(blob(tiny, f"{repo}@{envelope}", tmp_path / "envelope"))
    payload = base64.b64decode(value["payload"]).replace(b'"dirty":false', b'"dirty":true ')
    value["payload"] = base64.b64encode(payload).decode()
    dsse = "application/vnd.dsse.envelope.v1+json"
    changed = json.dumps(value).encode()
    refuse("changed", "its signature is not by this key", "--key", str(keys / "one.pub"), data=changed, kind=dsse)


def test_oversized_answers_of_a_registry_are_refused(tiny: Tiny, proxy: FaultyProxy, repo: str) -> None:
    pushed = push(tiny, f"{repo}:one", "--attest")
    provenance = read_manifest(tiny, f"{repo}:{tag_of(pushed)}")["manifests"][1]["digest"]
    blob_digest = read_manifest(tiny, f"{repo}@{provenance}")["layers"][0]["digest"]
    proxy.fault("GET", f"/blobs/{blob_digest}", Fault(status=200, body=b"\0" * (33 << 20), headers={}))
    found = verdict(tiny, f"{repo}:one")
    assert not found["holds"]
    assert "cannot be fetched" in found["attached"]["provenance"]["why"]
    assert found["attached"]["sbom"]["state"] == "good"
    proxy.clear()
    proxy.fault("GET", f"/manifests/{tag_of(pushed)}", Fault(status=403, body=b'{"errors":[{"code":"DENIED"}]}'))
    assert "denied" in one_error(tiny.run("verify-image", "app", f"{repo}:one"), 1)  # not an answer, so no verdict


def test_concurrent_index_writers_lose_nothing(
    tiny: Tiny, make_tiny: Callable[[], Tiny], registry: str, proxy: FaultyProxy, repo: str, keys: Path
) -> None:
    """While one looks, another writes: the index that one then pushes is merged again until both are in it."""
    pushed = push(tiny, f"{repo}:one")
    other = make_tiny()
    trust(other, registry, proxy.host)
    children = [
        subprocess.Popen(
            machine.argv("push-app", f"{repo}:one", "--attest", "--sign-by", str(keys / name)),
            cwd=machine.folder, env=machine.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for machine, name in ((tiny, "one"), (other, "two"))
    ]  # fmt: skip
    for child in children:
        text, _ = child.communicate(timeout=120)
        assert child.returncode == 0, text
    assert len(read_manifest(tiny, f"{repo}:{tag_of(pushed)}")["manifests"]) == 4
    for name in ("one", "two"):
        found = verdict(tiny, f"{repo}:one", "--attested", "--key", str(keys / f"{name}.pub"))
        assert found["holds"], found


def test_unusable_signing_key_is_refused_before_the_build(tiny: Tiny, repo: str, keys: Path) -> None:
    locked = keys / "locked"
    argv = ("openssl", "pkey", "-in", keys / "one", "-aes256", "-passout", "pass:sesame-open", "-out", locked)
    subprocess.run(argv, check=True)
    message = one_error(tiny.run("push-app", f"{repo}:one", "--sign-by", str(locked)), 2)
    assert "BUILDKIT_SIGN_PASSWORD" in message
    wrong = tiny.run("push-app", f"{repo}:one", "--sign-by", str(locked), BUILDKIT_SIGN_PASSWORD="sesame-shut")
    assert "cannot be read with the password" in one_error(wrong, 2)
    assert "sesame" not in wrong.text
    assert "not a private key" in one_error(tiny.run("push-app", f"{repo}:one", "--sign-by", str(keys / "one.pub")), 2)
    assert "give --push, too" in one_error(tiny.run("build-app", "--attest"), 2)
    assert not is_there(tiny, f"{repo}:one")
    succeeded(tiny.run("push-app", f"{repo}:one", "--sign-by", str(locked), BUILDKIT_SIGN_PASSWORD="sesame-open"))
    assert verdict(tiny, f"{repo}:one", "--key", str(keys / "one.pub"))["holds"]
