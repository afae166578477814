"""Artifacts and indexes of referrers: members that others wrote stay unchanged, and malformed documents are refused."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.digest import Digest
from buildkit.hostile_json import MalformedError
from buildkit.remote.artifact import (
    ArtifactPart,
    attestations_tag,
    decode_artifact,
    decode_index,
    describe,
    encode_artifact,
    encode_cosign,
    encode_index,
    referrers_tag,
    signatures_tag,
)

IMAGE = ArtifactPart.of("application/vnd.oci.image.manifest.v1+json", b"image")
PART = ArtifactPart.of("application/vnd.in-toto+json", b"{}", {"in-toto.io/predicate-type": "x"})
OURS = encode_artifact("application/vnd.in-toto+json", [PART], IMAGE, {"b": "2", "a": "1"})


def test_tags_follow_the_specification_and_cosign() -> None:
    digest = Digest("a" * 64)
    tags = referrers_tag(digest), signatures_tag(digest), attestations_tag(digest)
    assert tags == (f"sha256-{'a' * 64}", f"sha256-{'a' * 64}.sig", f"sha256-{'a' * 64}.att")


def test_artifact_is_read_as_it_was_written() -> None:
    found = decode_artifact(OURS)
    assert found.kind == "application/vnd.in-toto+json"
    assert found.subject == IMAGE.digest
    assert found.parts == (PART,)
    assert found.annotations == {"a": "1", "b": "2"}


def test_equal_annotations_give_equal_manifests() -> None:
    """Digests identify attachments, so the order in which annotations were given must not show."""
    one, two = ({"b": "2", "a": "1"}, {"a": "1", "b": "2"})
    parts = [ArtifactPart.of("x/y", b"", annotations) for annotations in (one, two)]
    assert json.dumps(parts[0].as_json()) == json.dumps(parts[1].as_json())
    assert encode_artifact("x/y", [parts[0]], IMAGE, one) == encode_artifact("x/y", [parts[1]], IMAGE, two)


@pytest.mark.parametrize(("size", "valid"), [(1 << 40, True), ((1 << 40) + 1, False), (-1, False)])
def test_size_of_a_part_is_at_most_a_tebibyte(size: int, valid: bool) -> None:
    value = json.loads(OURS)
    value["layers"][0]["size"] = size
    if valid:
        assert decode_artifact(json.dumps(value).encode()).parts[0].size == size
        return
    with pytest.raises(MalformedError):
        decode_artifact(json.dumps(value).encode())


def test_cosign_manifest_keeps_annotations_of_others() -> None:
    theirs = ArtifactPart.of(
        "application/vnd.dev.cosign.simplesigning.v1+json", b"theirs", {"dev.sigstore.cosign/bundle": "{}"}
    )
    manifest, config = encode_cosign([theirs, PART])
    assert decode_artifact(manifest).parts == (theirs, PART)
    assert json.loads(manifest)["config"]["digest"] == str(Digest.of(config))
    assert json.loads(config)["rootfs"]["diff_ids"] == [str(theirs.digest), str(PART.digest)]


def test_index_keeps_lines_of_others_unchanged() -> None:
    theirs = {
        **IMAGE.as_json(),
        "artifactType": "x/y",
        "data": "e30=",
        "urls": ["https://example.org/it"],
        "platform": {"architecture": "amd64", "os": "linux", "os.version": "1", "variant": "v2"},
        "annotations": {"their": "note"},
    }
    known = decode_index(json.dumps({"schemaVersion": 2, "manifests": [theirs, PART.as_json()]}).encode())
    index = encode_index(known, {PART.digest}, [describe(OURS, kind=True)])
    first, second = json.loads(index)["manifests"]
    assert first == theirs
    assert second == {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": str(Digest.of(OURS)),
        "size": len(OURS),
        "annotations": {"a": "1", "b": "2"},
        "artifactType": "application/vnd.in-toto+json",
    }
    assert "artifactType" not in describe(OURS, kind=False)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[" * 50_000,
        b" " * (5 << 20),
        b'{"schemaVersion": 1}',
        b'{"schemaVersion": 2}',
        b'{"schemaVersion": 2, "layers": {}, "manifests": {}}',
        b'{"schemaVersion": 2, "layers": [1], "manifests": [1], "config": {"mediaType": "x"}}',
        b'{"schemaVersion": 2, "mediaType": "text/html", "layers": [], "manifests": []}',
        b'{"schemaVersion": 2, "layers": [], "config": {"mediaType": "x"}, "annotations": {"a": 1}, "manifests": [[]]}',
        b'{"schemaVersion": 2, "layers": [], "config": {"mediaType": "x"}, "subject": {"digest": "sha1:x"}}',
        b'{"schemaVersion": 2, "layers": [], "config": {"mediaType": "x"}, "Subject": {}}',
        b'{"schemaVersion": 2, "manifests": [], "manifests": []}',
        b'{"schemaVersion": 2, "manifests": [{"digest": "sha256:%s", "Digest": "x"}]}' % (b"0" * 64),
        b'{"schemaVersion": 2, "manifests": [{"digest": "sha256:%s", "unknown": 1}]}' % (b"0" * 64),
    ],
)
def test_malformed_manifest_is_refused(data: bytes) -> None:
    for decode in (decode_artifact, decode_index):
        with pytest.raises(MalformedError):
            decode(data)


def test_impossible_sizes_and_overlong_lists_are_refused() -> None:
    value = json.loads(OURS)
    for size in (-1, 1 << 50, "1", True, 1.5):
        value["layers"][0]["size"] = size
        with pytest.raises(MalformedError):
            decode_artifact(json.dumps(value).encode())
    many = [PART.as_json()] * 1001
    with pytest.raises(MalformedError, match="manifests has more than 1000 items"):
        decode_index(json.dumps({"schemaVersion": 2, "manifests": many}).encode())
    with pytest.raises(MalformedError, match="layers has more than 1000 items"):
        decode_artifact(json.dumps({**json.loads(OURS), "layers": many}).encode())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["layers", "manifests", "subject", "annotations", "artifactType", "config", "digest"]), _JSON)
def test_any_json_is_parsed_or_refused_as_malformed(key: str, value: Any) -> None:
    good = {**json.loads(OURS), "manifests": [{**PART.as_json(), key: value}], key: value}
    for decode in (decode_artifact, decode_index):
        with suppress(MalformedError):
            decode(json.dumps(good).encode())


@pytest.mark.parametrize("value", ["\ud800", float("nan"), float("inf")])
def test_index_lines_that_could_not_be_written_again_are_refused(value: object) -> None:
    """An index is written with the lines of others in it."""
    index = {"schemaVersion": 2, "manifests": [{**IMAGE.as_json(), "urls": [value]}]}
    with pytest.raises(MalformedError, match=r"not JSON|not Unicode"):
        decode_index(json.dumps(index).encode())
