"""Spans of a build as values, and where the environment asks for them, or for metrics, to be sent.

The variables are those of OpenTelemetry's specification (*SDK environment variables*, *OTLP exporter*).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from buildkit.errors import DefinitionError
from buildkit.lazy_dataclass import dataclass

SpanValue = str | int | float | bool
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOL = "http/protobuf"
_SENDERS = {"TRACES": "builds send", "METRICS": "the monitor sends"}
_LONGEST = 500  # characters of a text
_READ = 4000  # characters of it that are looked at
_SECRETS = (
    (re.compile(r"\b([a-z][a-z0-9+.-]*://)[^/\s]*@", re.IGNORECASE), r"\1"),  # user and password of a URL
    (re.compile(r"\b([a-z][a-z0-9+.-]*://[^\s?#]*)[?#]\S*", re.IGNORECASE), r"\1"),  # a signed URL's query
    (re.compile(r"(authorization[\"']?\s*[=:]).*", re.IGNORECASE), r"\1 …"),
    (re.compile(r"\b(bearer|basic)\s+\S+", re.IGNORECASE), r"\1 …"),
    (re.compile(r"((?:token|secret|passw(?:or)?d|api[-_]?key)[\w-]*[\"']?\s*[=:]\s*)\S+", re.IGNORECASE), r"\1…"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedSpan:
    """Work from ``began`` to ``ended`` (nanoseconds since 1970); ``parent`` is the index of a span before it.

    ``failure`` is the first line of the error that ended it, None where there was none.
    """

    name: str
    parent: int | None
    began: int
    ended: int
    attributes: tuple[tuple[str, SpanValue], ...] = ()
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSettings:
    """``endpoint`` gets everything in at most ``seconds``; ``host`` is what may be shown of it."""

    endpoint: str
    host: str
    seconds: float


def load_trace_settings(env: Mapping[str, str]) -> TraceSettings | None:
    """Return where traces go; None if the environment asks for none. Raises DefinitionError if they cannot go there."""
    return _load_settings(env, "TRACES")


def load_metric_settings(env: Mapping[str, str]) -> TraceSettings | None:
    """Return where metrics go, as `load_trace_settings` does for traces."""
    return _load_settings(env, "METRICS")


def find_metric_interval(env: Mapping[str, str]) -> float:
    """Return the seconds between two exports. Raises DefinitionError."""
    name = "OTEL_METRIC_EXPORT_INTERVAL"
    return _parse_milliseconds(name, env.get(name, "").strip() or "60000")


def _load_settings(env: Mapping[str, str], signal: str) -> TraceSettings | None:
    endpoint = _find_setting(env, signal, "ENDPOINT")
    off = env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or env.get(f"OTEL_{signal}_EXPORTER") == "none"
    if not endpoint or off:
        return None
    protocol = _find_setting(env, signal, "PROTOCOL") or _PROTOCOL
    if protocol != _PROTOCOL:
        raise DefinitionError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is `{clean_text(protocol)}`, and {_SENDERS[signal]} {_PROTOCOL} only",
            hint=f"OTEL_EXPORTER_OTLP_PROTOCOL={_PROTOCOL}, and the collector's port for it (4318)",
        )
    if not env.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "").strip():  # that one is used as it is
        endpoint = f"{endpoint.removesuffix('/')}/v1/{signal.lower()}"
    seconds = _parse_milliseconds("OTEL_EXPORTER_OTLP_TIMEOUT", _find_setting(env, signal, "TIMEOUT") or "10000")
    return TraceSettings(endpoint=endpoint, host=_check_host(endpoint), seconds=seconds)


def clean_text(text: str) -> str:
    """Return one line without passwords, tokens and queries of URLs, in at most 500 characters."""
    if len(text) > _READ:
        text = text[:_READ].rpartition(" ")[0]  # without the word that is cut, which might be a secret
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:_LONGEST])


def _find_setting(env: Mapping[str, str], signal: str, name: str) -> str:
    """Return a setting of a signal, or else that of all; an empty variable counts as unset."""
    own = env.get(f"OTEL_EXPORTER_OTLP_{signal}_{name}", "").strip()
    return own or env.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()


def _check_host(endpoint: str) -> str:
    try:
        url = urlsplit(endpoint)
        port = f":{url.port}" if url.port else ""
    except ValueError:
        raise _not_a_url() from None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise _not_a_url()
    return clean_text(f"{url.scheme}://{url.hostname}{port}")


def _not_a_url() -> DefinitionError:
    return DefinitionError(f"{_ENDPOINT} is no URL of a collector", hint=f"{_ENDPOINT}=http://localhost:4318")


def _parse_milliseconds(name: str, text: str) -> float:
    """Return the seconds that a variable names in milliseconds; the SDK for Python takes time limits for seconds."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:10]) <= 600_000 or len(text) > 10:
        raise DefinitionError(f"{name} is `{clean_text(text)}`, and not 1 to 600000 milliseconds", hint=f"{name}=10000")
    return int(text) / 1000
