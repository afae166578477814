"""A token service for a real registry (distribution project, docs/spec/auth): it signs what the registry verifies."""

from __future__ import annotations

import base64
import datetime as dt
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.registry import PASSWORD, USER, new_address

IDENTITY = "identity-token-of-the-tests"
_BASIC = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"


@dataclass
class TokenService:
    """Gives tokens to `USER` with `PASSWORD` and to `IDENTITY`; ``asked`` are the scopes of each request."""

    folder: Path
    anonymous: tuple[str, ...] = ()  # actions for those who do not log in
    refused: tuple[str, ...] = ()  # scopes for which nobody gets a token
    asked: list[tuple[str, ...]] = field(default_factory=list)
    realm: str = ""

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens")])
        now = dt.datetime.now(dt.UTC)
        day = dt.timedelta(days=1)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .sign(self._key, SHA256())
        )
        (self.folder / "tokens.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
        self._chain = [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()]

    def registry_settings(self) -> dict[str, str]:
        """Return the registry's settings."""
        bundle = str(self.folder / "tokens.crt")
        return {"realm": self.realm, "service": "tests", "issuer": "tokens", "rootcertbundle": bundle}

    def sign(self, access: list[dict[str, Any]], life: float = 300) -> str:
        """Return a token."""
        now = int(time.time())
        claims = {"iss": "tokens", "sub": USER, "aud": "tests", "jti": "1", "access": access}
        claims |= {"iat": now - 1, "nbf": now - 1, "exp": now + int(life)}
        head = _encode({"typ": "JWT", "alg": "ES256", "x5c": self._chain})
        text = f"{head}.{_encode(claims)}"
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(SHA256())))
        return f"{text}.{_base64(r.to_bytes(32) + s.to_bytes(32))}"

    def answer(self, fields: dict[str, list[str]], authorization: str) -> tuple[int, dict[str, Any]]:
        """Return status and document for a request."""
        scopes = tuple(scope for text in fields.get("scope", []) for scope in text.split())
        self.asked.append(scopes)
        known = authorization == _BASIC or fields.get("refresh_token") == [IDENTITY]
        if (authorization and not known) or set(scopes) & set(self.refused):
            return 401, {"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]}
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            allowed = [action for action in actions.split(",") if known or action in self.anonymous]
            access.append({"type": kind, "name": name, "actions": allowed})
        return 200, {"token": self.sign(access), "expires_in": 300}


@contextmanager
def serve_tokens(folder: Path, **settings: Any) -> Iterator[TokenService]:
    """Serve tokens on loopback."""
    service = TokenService(folder, **settings)
    server = ThreadingHTTPServer((new_address(), 0), _Handler)
    server.service = service  # type: ignore[attr-defined]
    service.realm = f"http://{server.server_address[0]!s}:{server.server_address[1]}/token"
    threading.Thread(target=server.serve_forever, args=(0.05,)).start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name above
        pass

    def do_GET(self) -> None:
        self._answer(parse_qs(urlsplit(self.path).query))

    def do_POST(self) -> None:
        size = self.headers["Content-Length"]
        if size is None:  # in chunks; one here
            size = str(int(self.rfile.readline(), 16))
        self._answer(parse_qs(self.rfile.read(int(size)).decode()))

    def _answer(self, fields: dict[str, list[str]]) -> None:
        service = cast("TokenService", self.server.service)  # type: ignore[attr-defined]
        status, value = service.answer(fields, self.headers.get("Authorization", ""))
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.close_connection = True
        self.end_headers()
        self.wfile.write(body)


def _encode(value: dict[str, Any]) -> str:
    return _base64(json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
