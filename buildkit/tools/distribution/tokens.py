"""How a registry wants to be logged in to: its challenge, and the tokens that its token service gives.

Distribution project, docs/spec/auth/{token,oauth}.md; RFC 7235 for the challenges.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode

from buildkit.hostile_json import MalformedError, parse_json
from buildkit.tools.distribution.connections import HttpRequest, HttpResponse, parse_origin
from buildkit.tools.distribution.logins import RegistryLogin

_MOST_JSON = 1 << 20
_SHORTEST_LIFE = 60  # seconds that a token is good for if the service names fewer
_LONGEST_LIFE = 86400
_PARAMETER = re.compile(r'([A-Za-z_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SCHEME = re.compile(r"(?:^|[\s,])(basic|bearer)\s+(?=[A-Za-z_-]+\s*=)", re.IGNORECASE)
_BETWEEN = re.compile(r"[\s,]*")
_VISIBLE = re.compile(r"[\x21-\x7e]{1,65536}")


@dataclass(frozen=True, slots=True)
class AuthChallenge:
    """What a registry asks for; ``scheme`` is `basic` or `bearer`."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A bearer token, good until the monotonic clock shows ``expires``."""

    header: str = field(repr=False)  # the value of `Authorization`
    expires: float


def parse_challenge(header: str) -> AuthChallenge | None:
    """Return the first challenge that can be answered."""
    header = header[:8192]
    found = _SCHEME.search(header)
    if found is None:
        return None
    parameters, at = {}, found.end()
    while parameter := _PARAMETER.match(header, at):
        name, quoted, plain = parameter.groups("")
        parameters[name.lower()] = quoted.replace("\\", "") or plain
        at = _BETWEEN.match(header, parameter.end()).end()  # type: ignore[union-attr] # it matches anything
    return AuthChallenge(found[1].lower(), parameters)


def token_request(challenge: AuthChallenge, login: RegistryLogin, scopes: tuple[str, ...]) -> HttpRequest:
    """Return the request for a token; raises ValueError if the realm is not a URL.

    The log-in goes to the realm that the registry names, as with all clients of registries.
    """
    origin, target = parse_origin(challenge.parameters.get("realm", ""))
    fields = [("service", challenge.parameters.get("service", "")), *(("scope", scope) for scope in scopes)]
    fields = [(name, value) for name, value in fields if value]
    if login.identity_token:
        fields += [("grant_type", "refresh_token"), ("client_id", "xoe-buildkit")]
        fields += [("refresh_token", login.identity_token)]
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode(fields).encode()
        return HttpRequest(method="POST", origin=origin, target=target, headers=form, body=body, limit=_MOST_JSON)
    path, _, query = target.partition("?")
    fields = [*parse_qsl(query), *([("account", login.user)] if login.user else []), *fields]
    headers = {"Authorization": login.basic()} if login else {}
    return HttpRequest(
        method="GET", origin=origin, target=f"{path}?{urlencode(fields)}", headers=headers, limit=_MOST_JSON
    )


def read_token(response: HttpResponse, now: Callable[[], float] = time.monotonic) -> AccessToken:
    """Return the token of a response; raises MalformedError."""
    value = parse_json(response.body, limit=_MOST_JSON, what="the token")
    token = value.find("token") or value.member("access_token")
    text = token.text(65536) or value.member("access_token").text(65536)
    if not _VISIBLE.fullmatch(text):
        raise MalformedError("the token is not visible ASCII")
    life = value.find("expires_in")
    seconds = max(_SHORTEST_LIFE, life.number(0, 1 << 40)) if life else _SHORTEST_LIFE
    return AccessToken(header=f"Bearer {text}", expires=now() + min(seconds, _LONGEST_LIFE) - _SHORTEST_LIFE / 4)
