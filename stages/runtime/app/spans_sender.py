"""Sends spans to a collector by OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/#otlphttp).

OpenTelemetry's own exporter brings eight more packages, four of which serve HTTP alone: here the standard library does.
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import unquote, urlsplit

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # of a header (RFC 9110, 5.1)
VALUE = re.compile(r"[ -~]*")
READ = 65536  # bytes of an answer that are looked at

log = logging.getLogger("speech")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanCollector:
    """Where spans go. `context` is for HTTPS, None without; an answer may take `seconds`."""

    host: str
    port: int | None
    path: str
    seconds: float
    headers: Mapping[str, str] = field(repr=False)
    context: ssl.SSLContext | None = None

    def connect(self) -> HTTPConnection:
        """Return a connection that is not open yet."""
        if self.context is None:
            return HTTPConnection(self.host, self.port, timeout=self.seconds)
        return HTTPSConnection(self.host, self.port, timeout=self.seconds, context=self.context)


def find_setting(environ: Mapping[str, str], name: str) -> str:
    """Return a setting of traces, or else that of all signals; an empty variable counts as unset."""
    own = environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}", "").strip()
    return own or environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()


def parse_collector(environ: Mapping[str, str]) -> SpanCollector:
    """Return the collector that the environment names. Raises ValueError naming what cannot be used."""
    endpoint = find_setting(environ, "ENDPOINT")
    if not environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip():  # that one is used as it is
        endpoint = f"{endpoint.removesuffix('/')}/v1/traces"
    try:
        url = urlsplit(endpoint)
        host, port = url.hostname, url.port
    except ValueError:
        host = None
    if host is None or url.scheme not in ("http", "https") or not VALUE.fullmatch(endpoint) or " " in endpoint:
        raise ValueError("OTEL_EXPORTER_OTLP_ENDPOINT is no address such as http://collector:4318")
    text = find_setting(environ, "TIMEOUT") or "10000"
    if not (text.isascii() and text.isdigit() and 0 < int(text[:10]) <= 600_000):
        raise ValueError(f"OTEL_EXPORTER_OTLP_TIMEOUT is {text}, and not 1 to 600000 milliseconds")
    certificate = find_setting(environ, "CERTIFICATE") or None
    try:
        context = ssl.create_default_context(cafile=certificate) if url.scheme == "https" else None
    except OSError as error:
        raise ValueError(f"OTEL_EXPORTER_OTLP_CERTIFICATE: {certificate}: {error.strerror or error}") from error
    return SpanCollector(
        host=host,
        port=port,
        path=f"{url.path or '/'}{f'?{url.query}' if url.query else ''}",
        seconds=int(text) / 1000,
        headers=parse_headers(find_setting(environ, "HEADERS")),
        context=context,
    )


def parse_headers(text: str) -> dict[str, str]:
    """Return the headers in a list of `name=value`, encoded as in URLs. Raises ValueError, which shows no value.

    The SDK's own reader leaves out what it cannot read, and logs it: a token.
    """
    headers = {}
    for part in filter(str.strip, text.split(",")):
        name, has_value, value = (unquote(word).strip() for word in part.partition("="))
        if not (has_value and NAME.fullmatch(name) and VALUE.fullmatch(value)):
            raise ValueError("OTEL_EXPORTER_OTLP_HEADERS is no list such as name=value,other=value%2C1")
        headers[name.lower()] = value
    return headers


class SpanSender(SpanExporter):
    """Posts batches of spans, one at a time. What cannot be sent is lost; the log says when that begins and ends."""

    def __init__(self, collector: SpanCollector) -> None:
        self._collector = collector
        self._failed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; return whether they arrived."""
        try:
            self._post(encode_spans(spans).SerializeToString())
        except (OSError, HTTPException, ValueError) as error:
            if not self._failed:
                log.warning("spans are lost: the collector at %s: %s", self._collector.host, error)
            self._failed = True
            return SpanExportResult.FAILURE
        if self._failed:
            log.info("spans arrive again")
        self._failed = False
        return SpanExportResult.SUCCESS

    def _post(self, data: bytes) -> None:
        connection = self._collector.connect()
        try:
            headers = {**self._collector.headers, "Content-Type": "application/x-protobuf"}
            connection.request("POST", self._collector.path, data, headers)
            answer = connection.getresponse()
            answer.read(READ)
            if answer.status >= 300:
                raise OSError(f"it answered {answer.status}")
        finally:
            connection.close()
