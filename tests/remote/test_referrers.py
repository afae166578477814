"""Attaching to an in-memory registry: concurrent writers, and a skopeo that drops members of index lines."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from buildkit.digest import Digest
from buildkit.errors import BuildError
from buildkit.oci.reference import Ref, parse_ref
from buildkit.remote.artifact import SIGNATURE, ArtifactPart, attestations_tag, referrers_tag, signatures_tag
from buildkit.remote.referrers import ReferrerStore, SignedImage
from buildkit.remote.verification import AttachmentReader
from buildkit.store.blobs import Blobs
from buildkit.supply.statement import PROVENANCE, SIMPLE_TYPE, Statement, render_claim
from buildkit.tools.identity import IdentitySigner
from buildkit.tools.keys import Signer
from buildkit.tools.push_details import PushDetails
from buildkit.tools.registry import RegistryClient

REF = parse_ref("localhost:5000/x:one", "here")
IMAGE = b'{"schemaVersion":2}'
DIGEST = Digest.of(IMAGE)
STATEMENT = Statement(subjects=(("x", DIGEST),), predicate_type=PROVENANCE, predicate={})
THEIRS = {"mediaType": "a/b", "digest": f"sha256:{'a' * 64}", "size": 1}


class Table:
    """Manifests by name; ``keeps`` is whether indexes keep artifact types."""

    def __init__(self, *, keeps: bool = True) -> None:
        self.manifests: dict[str, bytes] = {}
        self.writes: list[str] = []
        self._blobs: set[str] = set()
        self._keeps = keeps

    def manifest(self, ref: Ref) -> bytes | None:
        return self.manifests.get(str(ref))

    def push(self, folder: Path, ref: Ref, details: PushDetails) -> tuple[Digest, ...]:
        assert not details.notes
        data = (folder / "manifest.json").read_bytes()
        for layer in json.loads(data)["layers"]:
            name = layer["digest"].removeprefix("sha256:")
            assert (folder / name).exists() or name in self._blobs or "theirs" in str(layer)
            self._blobs.add(name)
        self._write(str(ref), data)
        return ()

    def push_index(self, folder: Path, ref: Ref) -> bool:
        data = (folder / "manifest.json").read_bytes()
        if not self._keeps and b"artifactType" in data:
            return False
        self._write(str(ref), data)
        return True

    def _write(self, name: str, data: bytes) -> None:
        self.manifests[name] = data
        self.writes.append(name)

    def listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.manifests[f"localhost:5000/x:{referrers_tag(DIGEST)}"])[
            "manifests"
        ]
        return found


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path)


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer(ec.generate_private_key(ec.SECP256R1()))


def attach(table: Table, blobs: Blobs, *tags: str) -> ReferrerStore:
    image = SignedImage(repository=REF, stage="runtime", tags=tags)
    return ReferrerStore(image, IMAGE, cast("RegistryClient", table), blobs)


def at_once(_seconds: float) -> None:
    return


def index(*lines: dict[str, Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": lines}).encode()


def test_index_lines_have_artifact_types_if_skopeo_keeps_them(blobs: Blobs, signer: Signer) -> None:
    table = Table()
    attach(table, blobs).attach([STATEMENT], None, at_once)
    (line,) = table.listed()
    assert line["artifactType"] == "application/vnd.in-toto+json"
    writes = list(table.writes)
    attach(table, blobs).attach([STATEMENT], None, at_once)
    assert table.writes == writes


def test_artifact_types_are_left_out_only_if_no_foreign_line_has_them(blobs: Blobs) -> None:
    table = Table(keeps=False)
    name = f"localhost:5000/x:{referrers_tag(DIGEST)}"
    table.manifests[name] = index({**THEIRS, "annotations": {"their": "note"}})
    attach(table, blobs).attach([STATEMENT], None, at_once)
    theirs, ours = table.listed()
    assert theirs["annotations"] == {"their": "note"}
    assert "artifactType" not in ours
    table.manifests[name] = before = index({**THEIRS, "artifactType": "x/y"})
    with pytest.raises(BuildError, match="would drop members that others have written"):
        attach(table, blobs).attach([STATEMENT], None, at_once)
    assert table.manifests[name] == before


def test_concurrent_writer_loses_nothing(blobs: Blobs, signer: Signer) -> None:
    """A write between our read and our write is overwritten; its writer reads again and merges, as we do."""
    tag = f"localhost:5000/x:{referrers_tag(DIGEST)}"
    table = Table()
    reads = [0]
    plain = table.manifest

    def racing(ref: Ref) -> bytes | None:
        if str(ref) == tag and tag in table.manifests and reads[0] < 2:
            reads[0] += 1
            table.manifests[tag] = index({**THEIRS, "digest": f"sha256:{str(reads[0]) * 64}"})  # without ours
        return plain(ref)

    table.manifest = racing  # type: ignore[method-assign]
    attach(table, blobs).attach([STATEMENT], None, at_once)
    assert table.listed()[0]["digest"][7] == "2"
    assert len(table.listed()) == 2
    assert reads == [2]


@pytest.mark.parametrize("tag", [referrers_tag(DIGEST), attestations_tag(DIGEST), signatures_tag(DIGEST)])
def test_late_concurrent_writer_removes_nothing(blobs: Blobs, signer: Signer, tag: str) -> None:
    table, name = Table(), f"localhost:5000/x:{tag}"
    pauses: list[float] = []

    def overwritten(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            del table.manifests[name]

    attach(table, blobs).attach([STATEMENT], signer, overwritten)
    assert name in table.manifests
    assert len(pauses) == 2
    assert min(pauses) >= 0.5
    writes = list(table.writes)
    attach(table, blobs).attach([STATEMENT], signer, pauses.append)
    assert (table.writes, len(pauses)) == (writes, 2)


def test_merge_overwritten_after_every_check_is_reported(blobs: Blobs, signer: Signer) -> None:
    table = Table()
    with pytest.raises(BuildError, match="others keep writing to it"):
        attach(table, blobs).attach([], signer, lambda _seconds: table.manifests.clear())


def test_merge_overwritten_every_time_is_reported(blobs: Blobs) -> None:
    table = Table()
    plain = table.manifest
    table.manifest = lambda ref: index(THEIRS) if "sha256-" in str(ref) else plain(ref)  # type: ignore[method-assign]
    with pytest.raises(BuildError, match="others keep writing to it"):
        attach(table, blobs).attach([STATEMENT], None, at_once)


def test_signatures_of_others_stay_and_ours_is_added_once(blobs: Blobs, signer: Signer) -> None:
    table = Table()
    tag = f"localhost:5000/x:{signatures_tag(DIGEST)}"
    theirs = {**THEIRS, "annotations": {"theirs": "1", "dev.cosignproject.cosign/signature": "no base64"}}
    table.manifests[tag] = json.dumps({"schemaVersion": 2, "config": {"mediaType": "x"}, "layers": [theirs]}).encode()
    for _ in range(2):
        attach(table, blobs).attach([], signer, at_once)
    first, ours = json.loads(table.manifests[tag])["layers"]
    assert first == theirs
    assert ours["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"
    assert table.writes == [tag]
    attach(table, blobs).attach([], Signer(ec.generate_private_key(ec.SECP256R1())), at_once)
    assert len(json.loads(table.manifests[tag])["layers"]) == 3


@pytest.mark.parametrize("nonsense", [b"no JSON", b'{"schemaVersion": 2, "mediaType": "text/html"}'])
def test_unreadable_index_is_not_overwritten(blobs: Blobs, signer: Signer, nonsense: bytes) -> None:
    for tag, statements, key in ((referrers_tag(DIGEST), [STATEMENT], None), (signatures_tag(DIGEST), [], signer)):
        table = Table()
        table.manifests[f"localhost:5000/x:{tag}"] = nonsense
        with pytest.raises(BuildError, match="cannot be read, so none can be added"):
            attach(table, blobs).attach(statements, key, at_once)
        assert table.writes == []


class FakeIdentity:
    """Signs as Sigstore does: each bundle of the same statement differs."""

    def __init__(self, name: str) -> None:
        self.id = name
        self.count = 0

    def sign_statement(self, statement: bytes) -> bytes:
        self.count += 1
        return json.dumps({"signature": self.count, "statement": json.loads(statement)}).encode()


def test_bundles_are_attached_as_cosign_finds_them(blobs: Blobs) -> None:
    table = Table()
    attach(table, blobs).attach_bundles([STATEMENT], cast("IdentitySigner", FakeIdentity("ci")), at_once)
    (line,) = table.listed()
    kind = "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert line["artifactType"] == kind
    assert line["annotations"]["dev.sigstore.bundle.content"] == "dsse-envelope"
    assert line["annotations"]["dev.sigstore.bundle.predicateType"] == PROVENANCE
    manifest = json.loads(table.manifests[f"localhost:5000/x@{line['digest']}"])
    assert manifest["subject"]["digest"] == str(DIGEST)
    assert [layer["mediaType"] for layer in manifest["layers"]] == [kind]


def test_bundle_replaces_that_of_the_same_identity_only(blobs: Blobs) -> None:
    table, mine = Table(), FakeIdentity("mine")
    attach(table, blobs).attach([STATEMENT], None, at_once)
    plain = [line["digest"] for line in table.listed()]
    for identity in (mine, FakeIdentity("other"), mine):
        attach(table, blobs).attach_bundles([STATEMENT], cast("IdentitySigner", identity), at_once)
    assert mine.count == 2, "once for each request, although the tags are read again"
    lines = table.listed()
    assert [line["digest"] for line in lines][: len(plain)] == plain, "an unsigned attestation is another document"
    signers = [line["annotations"].get("io.xoe.buildkit.signed-by") for line in lines]
    assert sorted(filter(None, signers)) == ["mine", "other"]


# what is signed: the stage, and the tag where that is asked for


def signature(table: Table, blobs: Blobs, key: Signer, stage: str, tag: str = "") -> tuple[str, str]:
    reader = AttachmentReader(REF, DIGEST, cast("RegistryClient", table), blobs, key.public)
    verdict = reader.signature(stage, ("runtime", "hardened"), tag=tag)
    return verdict.state, verdict.why


def test_signature_holds_for_its_stage_alone(blobs: Blobs, signer: Signer) -> None:
    table = Table()
    attach(table, blobs).attach([], signer, at_once)
    assert signature(table, blobs, signer, "runtime") == ("good", "")
    assert signature(table, blobs, signer, "hardened") == ("refused", "it is signed as `runtime`, not as `hardened`")
    other = Signer(ec.generate_private_key(ec.SECP256R1()))
    assert signature(table, blobs, other, "runtime") == ("refused", "its signatures are not this key's")
    state, why = signature(table, blobs, other, "hardened")
    assert (state, "another stage" in why) == ("refused", True)


def test_tag_is_signed_where_that_is_asked_for(blobs: Blobs, signer: Signer) -> None:
    table = Table()
    attach(table, blobs).attach([], signer, at_once)
    state, why = signature(table, blobs, signer, "runtime", tag="one")
    assert (state, "push it with --sign-tags" in why) == ("refused", True)
    attach(table, blobs, "one", "two").attach([], signer, at_once)
    for tag in ("", "one", "two"):
        assert signature(table, blobs, signer, "runtime", tag=tag) == ("good", "")
    assert signature(table, blobs, signer, "runtime", tag="hardened")[0] == "refused"
    assert signature(table, blobs, signer, "hardened", tag="one")[0] == "refused"
    writes = list(table.writes)
    attach(table, blobs, "two").attach([], signer, at_once)  # all of that is signed already
    assert table.writes == writes
    attach(table, blobs, "three").attach([], signer, at_once)
    assert signature(table, blobs, signer, "runtime", tag="one") == ("good", "")


def test_signature_without_a_stage_is_refused(blobs: Blobs, signer: Signer) -> None:
    table = Table()
    claim = render_claim(REF.repository, DIGEST, "")
    note = {SIGNATURE: base64.b64encode(signer.sign(claim)).decode(), "theirs": "1"}
    part = ArtifactPart.of(SIMPLE_TYPE, claim, note).as_json()
    value = {"schemaVersion": 2, "config": THEIRS, "layers": [part]}
    table.manifests[f"localhost:5000/x:{signatures_tag(DIGEST)}"] = json.dumps(value).encode()
    state, why = signature(table, blobs, signer, "runtime")
    assert (state, "names no stage" in why) == ("refused", True)
    attach(table, blobs).attach([], signer, at_once)  # ours is added
    assert signature(table, blobs, signer, "runtime") == ("good", "")
