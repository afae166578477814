"""Keyless signatures: Sigstore bundles, signed in the name of the CI job that runs.

The job's platform (GitHub, GitLab, Buildkite, CircleCI, Google Cloud) vouches for the job by an OIDC token. Sigstore's
certificate authority issues a certificate for it that lives for minutes, and its transparency log records what was
signed. The only importer of ``sigstore``, an optional extra; it asks the network and the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from buildkit.errors import DefinitionError, MissingTool, ToolError

T = TypeVar("T")
_HINT = "on GitHub the job needs `permissions: {id-token: write}`, on GitLab `id_tokens` with SIGSTORE_ID_TOKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySigner:
    """Signs in the name of this job. ``id`` is the subject of its token, for messages and comparisons; unverified."""

    id: str

    def sign_statement(self, statement: bytes) -> bytes:
        """Return a bundle (JSON) whose envelope holds this in-toto statement; raises ToolError.

        The token is requested for each signature: a build may outlive it.
        """
        return _call(lambda: _sign(statement), "Sigstore signed nothing")


def open_identity() -> IdentitySigner:
    """Return the signer of this job; raises DefinitionError if nobody vouches for it, MissingTool and ToolError."""
    try:
        from sigstore.oidc import IdentityToken, detect_credential
    except ImportError as error:
        hint = "pip install 'xoe-buildkit[keyless]'"
        raise MissingTool("signing without a key needs the Python package `sigstore`", hint=hint) from error
    token = _call(detect_credential, "the identity of this job cannot be had")
    if token is None:
        raise DefinitionError("--sign-keyless needs a CI job that its platform vouches for; this is none", hint=_HINT)
    return IdentitySigner(id=_call(lambda: IdentityToken(token).identity, "the identity of this job is malformed"))


def _sign(statement: bytes) -> bytes:
    from sigstore.dsse import Statement
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken, detect_credential
    from sigstore.sign import SigningContext

    token = IdentityToken(detect_credential() or "")
    with SigningContext.from_trust_config(ClientTrustConfig.production()).signer(token) as signer:
        return signer.sign_dsse(Statement(statement)).to_json().encode("utf-8")


def _call(function: Callable[[], T], what: str) -> T:
    try:
        return function()
    except Exception as error:  # sigstore passes on what five libraries raise, and some of it has no text
        raise ToolError(f"{what}: {str(error) or type(error).__name__}", hint=_HINT) from error
