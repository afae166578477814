"""Statements, envelopes and signature payloads: by their specifications, and hostile ones."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.digest import Digest
from buildkit.hostile_json import MalformedError
from buildkit.supply.statement import (
    MAX_BYTES,
    PROVENANCE,
    STATEMENT,
    STATEMENT_TYPE,
    Envelope,
    Statement,
    parse_envelope,
    parse_statement,
    pre_authenticate,
    render_claim,
    render_envelope,
    render_statement,
)

IMAGE = Digest.of(b"image")
GOOD = Statement(subjects=(("localhost:5000/x", IMAGE),), predicate_type=PROVENANCE, predicate={"a": ["é", 1]})


def test_statement_is_read_as_it_was_written() -> None:
    assert parse_statement(render_statement(GOOD)) == GOOD
    assert json.loads(render_statement(GOOD))["_type"] == STATEMENT
    assert GOOD.is_about(IMAGE)
    assert not GOOD.is_about(Digest.of(b"another"))


def test_annotations_are_written_with_each_subject() -> None:
    annotated = replace(GOOD, annotations=(("stage", "runtime"),))
    assert [subject["annotations"] for subject in json.loads(render_statement(annotated))["subject"]] == [
        {"stage": "runtime"}
    ] * len(GOOD.subjects)
    assert parse_statement(render_statement(annotated)) == GOOD


def test_signed_bytes_follow_dsse() -> None:
    # the example of the protocol's own text
    assert pre_authenticate("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    envelope = Envelope(payload_type=STATEMENT_TYPE, payload=b"\xff body", signatures=(b"1", b"\xfe\xff"))
    assert parse_envelope(render_envelope(envelope)) == envelope


def test_signature_payload_equals_that_of_cosign() -> None:
    assert render_claim("ghcr.io/me/app", IMAGE, "") == (
        b'{"critical":{"identity":{"docker-reference":"ghcr.io/me/app"},"image":{"docker-manifest-digest":"'
        + str(IMAGE).encode()
        + b'"},"type":"cosign container image signature"},"optional":null}'
    )
    # cosign sign -a stage=runtime
    assert render_claim("ghcr.io/me/app:1", IMAGE, "runtime") == (
        b'{"critical":{"identity":{"docker-reference":"ghcr.io/me/app:1"},"image":{"docker-manifest-digest":"'
        + str(IMAGE).encode()
        + b'"},"type":"cosign container image signature"},"optional":{"stage":"runtime"}}'
    )


def changed(**parts: Any) -> bytes:
    return json.dumps({**json.loads(render_statement(GOOD)), **parts}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"_type": ' + b"[" * 50_000,
        b" " * (MAX_BYTES + 1),
        changed(_type="https://in-toto.io/Statement/v0.1"),
        changed(predicateType=None),
        changed(predicate=[]),
        changed(subject=[]),
        changed(subject=[{"digest": {"sha256": "A" * 64}}]),
        changed(subject=[{"digest": {"sha512": "a" * 128}}]),
        changed(subject=["x"]),
        changed(subject=[{"name": "x", "digest": {"sha256": IMAGE.hex}}] * 65),
        changed(subject={"digest": {"sha256": IMAGE.hex}}),
        changed(PredicateType="x"),
        changed(subject=[{"digest": {"sha256": IMAGE.hex}, "Digest": {}}]),
        render_statement(GOOD).replace(b'"predicate":', b'"predicate":{},"predicate":', 1),
    ],
)
def test_malformed_statement_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_statement(data)


@pytest.mark.parametrize(
    "parts",
    [
        {"payloadType": "application/json"},
        {"payload": "*"},
        {"payload": None},
        {"signatures": []},
        {"signatures": None},
        {"signatures": [{"sig": 1}]},
        {"signatures": ["x"]},
        {"signatures": [{"sig": "AA=="}] * 17},
        {"signatures": [{"sig": "AA==", "Sig": "AA=="}]},
        {"Payload": "AA=="},
    ],
)
def test_malformed_envelope_is_refused(parts: dict[str, Any]) -> None:
    good = {
        "payloadType": STATEMENT_TYPE,
        "payload": base64.urlsafe_b64encode(b"\xff\xff").decode(),  # of either alphabet
        "signatures": [{"sig": "AA=="}],
    }
    assert parse_envelope(json.dumps(good).encode()).payload == b"\xff\xff"
    with pytest.raises(MalformedError):
        parse_envelope(json.dumps({**good, **parts}).encode())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["_type", "subject", "predicate", "predicateType", "payload", "payloadType", "signatures"]),
        _JSON | st.sampled_from([STATEMENT, STATEMENT_TYPE]),
    )
)
def test_any_json_is_parsed_or_refused_as_malformed(value: dict[str, Any]) -> None:
    data = json.dumps(value).encode()
    for parse in (parse_statement, parse_envelope):
        with suppress(MalformedError):
            parse(data)
