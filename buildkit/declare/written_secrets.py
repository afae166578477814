"""Secrets that are written into a file of the repository, where everybody who has it reads them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

_NAME = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|(?:^|_)(?:PASS|PWD|SECRETS?|TOKEN|CREDENTIALS?|APIKEY|KEY|PRIVATE_KEY)$", re.IGNORECASE
)
_HARMLESS = re.compile(
    r"(?i)|true|false|yes|no|on|off|none|/.*|\$\{\w+\}"
)  # a path names a file that holds it, a reference what is given elsewhere
_HEADERS = re.compile(r"OTEL_EXPORTER_OTLP(?:_[A-Z]+)?_HEADERS")
_LOGIN_HEADER = re.compile(r"(?i)(?:^|,)\s*[\w.-]*(?:auth|cookie|key|password|secret|token)[\w.-]*\s*=")
_REFERENCE = r"\$(?:\w+|\{\w+\}|\(\w+\))"  # that of a shell or a compose file
_LOGIN = re.compile(rf"(?<=[a-zA-Z0-9]://)[^/@\s:\"'`]*:(?!{_REFERENCE}@)[^/@\s\"'`]+@")
_BEFORE_HOST = re.compile(
    r"(?<!ssh://)(?<=://)[^/\s]*@|(?<=ssh://)[^/\s:@]*:[^/\s]*@"  # a user of ssh alone is no secret
    r"|^[^/\s:@]+:[^/\s@]+@(?=[^/\s]+/)"  # of a registry
)
IN_URL = "holds a password in a URL"
INSTEAD = "a secret is never written down: docs/supply-chain.md#secrets says how a build and a service get one"
IN_SERVICES = "declare it in [secrets] and let the service read /run/secrets/NAME"


class _Place(Protocol):
    def at(self, key: str, /) -> _Place: ...

    def report(self, what: str, hint: str = "") -> None: ...


def has_login(text: str) -> bool:
    """Return whether a text holds an address with a password: ``https://USER:PASSWORD@…``, not ``$PASSWORD``."""
    return "://" in text and _LOGIN.search(text) is not None


def hide_logins(text: str) -> str:
    """Return a text for a message, without what stands before a host."""
    return _BEFORE_HOST.sub("", text)


def find_secret(name: str, value: str) -> str:
    """Return why a variable looks like one that holds a secret; empty if it does not."""
    if has_login(value):
        return IN_URL
    if _NAME.search(name) and not _HARMLESS.fullmatch(value):
        return "looks like a secret that is written down"
    return "holds a header that logs in" if _HEADERS.fullmatch(name) and _LOGIN_HEADER.search(value) else ""


def check_variables(variables: Iterable[tuple[str, str]], place: _Place, hint: str = INSTEAD) -> None:
    """Report variables that hold a secret."""
    for name, value in variables:
        if what := find_secret(name, value):
            place.at(name).report(what, hint)
