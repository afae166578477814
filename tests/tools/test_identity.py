"""Signing by the identity of a CI job: Sigstore's own library, without its servers."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import sigstore.models
import sigstore.oidc
import sigstore.sign

from buildkit.build import attestations
from buildkit.build.attestations import open_attestations
from buildkit.digest import Digest
from buildkit.errors import DefinitionError, MissingTool, ToolError
from buildkit.oci.reference import parse_ref
from buildkit.supply.statement import PROVENANCE, Statement, render_statement
from buildkit.tools.identity import IdentitySigner, open_identity

SUBJECT = "repo:me/app:ref:refs/heads/main"
STATEMENT = Statement(subjects=(("x", Digest.of(b"image")),), predicate_type=PROVENANCE, predicate={"a": 1})
VARIABLES = (
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "SIGSTORE_ID_TOKEN",
    "BUILDKITE",
    "CIRCLECI",
)


def make_token(**claims: Any) -> str:
    now = int(time.time())
    claims = {"iss": "https://gitlab.com", "sub": SUBJECT, "aud": "sigstore", "iat": now, "exp": now + 60} | claims
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts), "c2ln"])


@pytest.fixture(autouse=True)
def job(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A job of GitLab whose token is in its environment."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", make_token())
    return monkeypatch


class FakeSigner:
    def sign_dsse(self, statement: sigstore.dsse.Statement) -> Any:
        return type("Bundle", (), {"to_json": lambda _self: json.dumps({"payload": statement._contents.decode()})})()


class FakeContext:
    def __init__(self) -> None:
        self.subjects: list[str] = []

    @contextmanager
    def signer(self, token: sigstore.oidc.IdentityToken) -> Iterator[FakeSigner]:
        self.subjects.append(token.identity)
        yield FakeSigner()


def test_identity_is_the_subject_of_the_token_of_the_job() -> None:
    assert open_identity() == IdentitySigner(id=SUBJECT)


def test_job_that_nobody_vouches_for_cannot_sign(job: pytest.MonkeyPatch) -> None:
    job.delenv("GITLAB_CI")
    with pytest.raises(DefinitionError, match="--sign-keyless needs a CI job") as caught:
        open_attestations(attest=True, key=None, keyless=True)
    assert "id-token: write" in caught.value.hint


@pytest.mark.parametrize("token", ["no token", make_token(exp=1), make_token(aud="other"), ""])
def test_unusable_token_is_an_error(job: pytest.MonkeyPatch, token: str) -> None:
    job.setenv("SIGSTORE_ID_TOKEN", token)
    with pytest.raises((ToolError, DefinitionError)):
        open_identity()


def test_missing_package_names_its_extra(job: pytest.MonkeyPatch) -> None:
    job.setitem(sys.modules, "sigstore.oidc", None)
    with pytest.raises(MissingTool) as caught:
        open_identity()
    assert "xoe-buildkit[keyless]" in caught.value.hint


def test_statement_is_signed_as_it_is_written(job: pytest.MonkeyPatch) -> None:
    """Sigstore's statement type checks the document and keeps its bytes."""
    job.setattr(sigstore.models.ClientTrustConfig, "production", lambda: None)
    context = FakeContext()
    job.setattr(sigstore.sign.SigningContext, "from_trust_config", lambda _config: context)
    body = render_statement(replace(STATEMENT, annotations=(("stage", "runtime"),)))
    assert json.loads(open_identity().sign_statement(body)) == {"payload": body.decode()}
    assert context.subjects == [SUBJECT]
    with pytest.raises(ToolError, match="malformed in-toto statement"):
        open_identity().sign_statement(b"{}")


def test_unreachable_service_signs_nothing(job: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ConnectionError

    job.setattr(sigstore.models.ClientTrustConfig, "production", fail)
    with pytest.raises(ToolError, match="Sigstore signed nothing: ConnectionError"):
        open_identity().sign_statement(render_statement(STATEMENT))


def test_image_and_every_attestation_get_a_bundle(job: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, tuple[str, ...]]] = []

    class FakeStore:
        size = 0

        def __init__(self, *_: object) -> None: ...

        def attach(self, statements: list[Statement], signer: object, _pause: object) -> None:
            assert signer is None
            seen.append(("plain", tuple(statement.predicate_type for statement in statements)))

        def attach_bundles(self, statements: list[Statement], signer: IdentitySigner, _pause: object) -> None:
            assert all(statement.is_about(Digest.of(b"manifest")) for statement in statements)
            assert statements[0].annotations == (("stage", "runtime"),)
            seen.append((signer.id, tuple(statement.predicate_type for statement in statements)))

    made = [Statement(subjects=(("x", Digest.of(b"manifest")),), predicate_type=PROVENANCE, predicate={})]
    job.setattr(attestations, "ReferrerStore", FakeStore)
    job.setattr(attestations, "make_statements", lambda *_: made)
    stop = type("Stop", (), {"wait": None})
    planner: Any = type("Planner", (), {"context": type("Context", (), {"stop": stop, "blobs": None})})
    request = open_attestations(attest=True, key=None, keyless=True)
    assert request is not None
    composition: Any = type("Composition", (), {"stage": type("Stage", (), {"name": "runtime"})})
    refs = [parse_ref("r.io/me/app:1", "here")]
    attestations.attach_attestations(planner, composition, b"manifest", refs, request)
    assert seen == [("plain", (PROVENANCE,)), (SUBJECT, ("https://sigstore.dev/cosign/sign/v1", PROVENANCE))]
