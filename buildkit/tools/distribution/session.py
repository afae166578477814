"""Requests to one repository of a registry: log-in, redirects, and which failures may pass.

Credentials and tokens are sent to the registry's own origin only: an upload or a redirect that leads elsewhere goes
there without them, and never from TLS to plain HTTP.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from buildkit.digits import find_number
from buildkit.hostile_json import MalformedError
from buildkit.oci.reference import Ref
from buildkit.tools.distribution.certificates import make_tls_context
from buildkit.tools.distribution.connections import (
    ConnectionFailed,
    Connections,
    HttpRequest,
    HttpResponse,
    Operation,
    RegistryOrigin,
    parse_origin,
)
from buildkit.tools.distribution.left_to_skopeo import LeftToSkopeo
from buildkit.tools.distribution.registries_conf import RegistriesConf, RegistryRule
from buildkit.tools.registry_errors import without_secrets

if TYPE_CHECKING:
    from buildkit.tools.distribution.logins import RegistryLogin
    from buildkit.tools.distribution.tokens import AccessToken, AuthChallenge

_PASSES = frozenset((408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 527))
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MOST_REDIRECTS = 5
_LONGEST_LOCATION = 8192
_LONGEST_PAUSE = 60.0  # seconds
_SHOWN = 300
_NO_WORDS = {401: "authentication required"}
_DOCKER_HUB = {"docker.io": "registry-1.docker.io"}


class RequestFailed(Exception):
    """A registry's refusal, or no answer. ``transient`` if the same request may succeed after ``wait`` seconds.

    ``codes`` are those of the distribution specification, such as `MANIFEST_UNKNOWN`.
    """

    def __init__(
        self, message: str, *, status: int = 0, codes: tuple[str, ...] = (), transient: bool = False, wait: float = 0.0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.codes = codes
        self.transient = transient
        self.wait = wait


class RepositorySession:
    """The access to one repository; threads share it. ``rule`` is of registries.conf(5)."""

    def __init__(self, ref: Ref, conf: RegistriesConf) -> None:
        self.ref = ref
        self.rule: RegistryRule = conf.rule(ref.repository)
        insecure = self.rule.insecure
        self.path = self.full_path(ref.path)
        self.connections = Connections(lambda: make_tls_context(ref.host, insecure=insecure))
        self._helpers = conf.helpers
        self._registry = _DOCKER_HUB.get(ref.host, ref.host)
        self._lock = threading.Lock()
        self._origin: RegistryOrigin | None = None
        self._challenge: AuthChallenge | None = None
        self._login: RegistryLogin | None = None
        self._tokens: dict[tuple[str, ...], AccessToken] = {}

    def full_path(self, path: str) -> str:
        """Return the path of a repository of this registry in requests, which Docker Hub lets people shorten."""
        return f"library/{path}" if self.ref.host == "docker.io" and "/" not in path else path

    @property
    def pull_scopes(self) -> tuple[str, ...]:
        """The scopes of a token that may pull."""
        return (f"repository:{self.path}:pull",)

    @property
    def push_scopes(self) -> tuple[str, ...]:
        """The scopes of a token that may push."""
        return (f"repository:{self.path}:pull,push",)

    def origin(self, operation: Operation) -> RegistryOrigin:
        """Return the registry's origin: TLS, or plain HTTP where the settings allow it and no TLS is spoken."""
        with self._lock:
            if self._origin is None:
                secure, _ = parse_origin(f"https://{self._registry}/")
                if self.rule.insecure and not _speaks_tls(operation, secure):
                    secure, _ = parse_origin(f"http://{self._registry}/")
                self._origin = secure
            return self._origin

    def request(self, operation: Operation, request: HttpRequest, scopes: tuple[str, ...]) -> HttpResponse:
        """Return the response to a request after log-in and redirects, whatever its status.

        Raises RequestFailed if none comes, and LeftToSkopeo for a log-in of an unknown kind.
        """
        try:
            response = self._log_in_and_request(operation, request, scopes)
            for _ in range(_MOST_REDIRECTS):
                if response.status not in _REDIRECTS or "location" not in response.headers:
                    return response
                origin, target = self.resolve(operation, request, response.headers["location"])
                request = replace(request, origin=origin, target=target)
                response = self._log_in_and_request(operation, request, scopes)
        except ConnectionFailed as error:
            raise RequestFailed(str(error), transient=error.transient) from error
        raise RequestFailed("the registry redirects without end")

    def resolve(self, operation: Operation, request: HttpRequest, location: str) -> tuple[RegistryOrigin, str]:
        """Return where the ``Location`` of a response to ``request`` leads; raises RequestFailed if it must not."""
        registry = self.origin(operation)
        base = f"{request.origin.scheme}://{request.origin.authority}{request.target}"
        try:
            origin, target = parse_origin(urljoin(base, location))
        except ValueError:
            raise RequestFailed("the registry names an address that is not followed") from None
        if len(target) > _LONGEST_LOCATION or not (target.isascii() and target.isprintable()) or " " in target:
            raise RequestFailed("the registry names an address that is not followed")
        if origin.scheme == "http" and registry.scheme == "https":
            if origin.host != registry.host:
                raise RequestFailed("the registry leads from TLS to plain HTTP, which is not followed")
            origin = registry  # a proxy in front of it ends TLS, and the registry does not know
        return origin, target

    def _log_in_and_request(self, operation: Operation, request: HttpRequest, scopes: tuple[str, ...]) -> HttpResponse:
        """Return the response; with 401 get a token, also in place of one that has expired, and try once more."""
        own = request.origin == self.origin(operation)
        header = self._authorization(operation, scopes) if own else ""
        response = operation.request(_with_authorization(request, header))
        if response.status != HTTPStatus.UNAUTHORIZED or not own:
            return response
        scopes = self._learn(operation, response, scopes)
        again = self._authorization(operation, scopes, refused=header)
        return operation.request(_with_authorization(request, again)) if again and again != header else response

    def _learn(self, operation: Operation, response: HttpResponse, scopes: tuple[str, ...]) -> tuple[str, ...]:
        """Keep what the registry asks for; return the scopes, with one that it says is lacking."""
        header = response.headers.get("www-authenticate", "")
        if not header:  # some ask only here
            ping = HttpRequest(method="GET", origin=self.origin(operation), target="/v2/")
            header = operation.request(ping).headers.get("www-authenticate", "")
        from buildkit.tools.distribution.tokens import parse_challenge  # only where a registry asks

        challenge = parse_challenge(header)
        if challenge is None:
            if header:
                raise LeftToSkopeo(f"{self.ref.host} asks for a log-in of another kind")
            return scopes
        with self._lock:
            self._challenge = challenge
        lacking = challenge.parameters.get("scope", "")
        is_lacking = challenge.parameters.get("error") == "insufficient_scope" and lacking not in scopes
        return (*scopes, lacking) if lacking and is_lacking else scopes

    def _authorization(self, operation: Operation, scopes: tuple[str, ...], *, refused: str = "") -> str:
        """Return the value of the header, empty for none; ``refused`` is the one that the registry refused."""
        origin = self.origin(operation)
        with self._lock:
            challenge = self._challenge
            if challenge is None:
                return ""
            if self._login is None:
                from buildkit.tools.distribution.logins import find_login

                self._login = find_login(self.ref, self._helpers)
            if challenge.scheme == "basic":
                return self._login.basic() if self._login else ""
            token = self._tokens.get(scopes)
            if token is None or token.expires < time.monotonic() or token.header == refused:
                token = self._get_token(operation, origin, self._login, scopes)
                self._tokens[scopes] = token
            return token.header

    def _get_token(
        self, operation: Operation, registry: RegistryOrigin, login: RegistryLogin, scopes: tuple[str, ...]
    ) -> AccessToken:
        from buildkit.tools.distribution.tokens import read_token, token_request

        if self._challenge is None:
            raise AssertionError("the registry asks for nothing")
        try:
            request = token_request(self._challenge, login, scopes)
        except ValueError:
            raise RequestFailed("the registry names no token service that can be asked") from None
        if request.origin.scheme == "http" and registry.scheme == "https":
            raise RequestFailed("the registry names a token service without TLS, which is not asked")
        response = operation.request(request)
        if response.status != HTTPStatus.OK:
            raise failure_of(response, "its token service: ")
        try:
            return read_token(response)
        except MalformedError as error:
            raise RequestFailed(f"its token service: {error}") from error


def failure_of(response: HttpResponse, prefix: str = "") -> RequestFailed:
    """Return the failure that a response of an unexpected status is."""
    errors = _read_errors(response.body)
    words = ": ".join(filter(None, _spell(errors[0]))) if errors else _NO_WORDS.get(response.status, "")
    phrase = HTTPStatus(response.status).phrase if response.status in set(HTTPStatus) else ""
    message = f"{prefix}{response.status} {phrase}".rstrip() + (f": {words}" if words else "")
    return RequestFailed(
        without_secrets(message)[:_SHOWN],
        status=response.status,
        codes=tuple(code for code, _ in errors),
        transient=response.status in _PASSES,
        wait=_pause(response.headers),
    )


def _read_errors(body: bytes) -> list[tuple[str, str]]:
    """Return codes and messages of an error response; none if it is something else."""
    try:
        errors = json.loads(body)["errors"]
        return [(str(error.get("code", "")), str(error.get("message", ""))) for error in errors[:4]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []


def _spell(error: tuple[str, str]) -> tuple[str, str]:
    code, message = error
    return code.lower().replace("_", " "), message if message.casefold() != code.casefold() else ""


def _pause(headers: Mapping[str, str]) -> float:
    """Return the seconds that ``Retry-After`` asks for (RFC 9110: a number or a date), within limits."""
    text = headers.get("retry-after", "")
    number = find_number(text)
    if number is None and text:
        try:
            number = int(parsedate_to_datetime(text).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            number = 0
    return min(max(0.0, float(number or 0)), _LONGEST_PAUSE)


def _with_authorization(request: HttpRequest, header: str) -> HttpRequest:
    return replace(request, headers={**request.headers, "Authorization": header}) if header else request


def _speaks_tls(operation: Operation, origin: RegistryOrigin) -> bool:
    try:
        operation.request(HttpRequest(method="GET", origin=origin, target="/v2/"))
    except ConnectionFailed:
        return False
    return True
