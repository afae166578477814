"""HTTP: the only importer of httpx2, through unearth's client: retries, certificates, credentials, proxies.

``HttpSession`` implements unearth's fetcher protocol (``get``, ``head``, ``get_stream``), so index pages are retried as
downloads are. It is safe to share among threads. No message holds more of a URL than its host.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from buildkit.digits import find_number
from buildkit.errors import DefinitionError, FetchError, Interrupted
from buildkit.locks.model_source import HUB
from buildkit.tools.index_settings import PackageSources, host_of

if TYPE_CHECKING:
    import ssl

    from httpx2 import Client, Response
    from unearth.fetchers import PyPIClient

_TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 527))
_REFUSED = frozenset((401, 403, 407))
_OF_BODY = frozenset(("content-encoding", "content-length", "transfer-encoding"))
_TRIES = 5
_TRIES_TO_CONNECT = 3
_LONGEST_PAUSE = 30.0  # seconds
_DEFAULT_TIMEOUT = 20.0  # seconds without a byte
_Result = TypeVar("_Result")


_HUB_HINTS = {
    401: "accept the model's conditions on its page, and set HF_TOKEN to a token that may read it",
    404: "the hub has removed or renamed it; run: nox -s lock -- --upgrade",
    429: "the hub limits how much it is asked: wait some minutes, or set HF_TOKEN, with which it allows more",
}


class TransientFailure(Exception):
    """A broken connection or a busy server: the same request may succeed later. ``wait`` is in seconds."""

    def __init__(self, error: FetchError, *, wait: float = 0.0, connecting: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait = wait
        self.connecting = connecting


class RetryPolicy:
    """The retries of a transient failure and the pauses before them; ``stop`` ends any pause with Interrupted."""

    def __init__(self, stop: threading.Event, *, unit: float = 0.5) -> None:
        self.stop = stop
        self._unit = unit

    def check(self) -> None:
        """Raise Interrupted if a stop was requested."""
        if self.stop.is_set():
            raise Interrupted("interrupted")

    def wait(self, failure: TransientFailure, tries: int) -> None:
        """Pause before try ``tries + 1``, longer each time, with jitter. Raises the error after the last try."""
        if tries >= (_TRIES_TO_CONNECT if failure.connecting else _TRIES):
            raise failure.error
        pause = self._unit * 2 ** (tries - 1) * random.uniform(0.5, 1.5)
        if self.stop.wait(min(max(pause, failure.wait), _LONGEST_PAUSE)):
            raise Interrupted("interrupted")


class HttpSession:
    """HTTP with pip's and uv's settings. ``refused`` collects the hosts that refused the credentials."""

    def __init__(self, sources: PackageSources, retry_policy: RetryPolicy) -> None:
        self._sources = sources
        self._retry_policy = retry_policy
        self._lock = threading.Lock()
        self._made: PyPIClient | None = None
        self._hub_token: str | None = None
        self.refused: set[str] = set()

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Response:
        """Return the whole response, whatever its status. Raises FetchError if the server is unreachable or broken."""
        return self._whole("GET", url, headers)

    def head(self, url: str, *, headers: Mapping[str, str] | None = None) -> Response:
        """Return the response to HEAD; see ``get``."""
        return self._whole("HEAD", url, headers)

    def get_limited(self, url: str, *, most: int, headers: Mapping[str, str] | None = None) -> tuple[Response, bytes]:
        """Return the response as ``get`` does, and its body; raises FetchError for one of more than ``most`` bytes."""

        def attempt(url: str, headers: dict[str, str]) -> tuple[Response, bytes]:
            body = bytearray()
            with self.client.stream("GET", url, headers=headers) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > most:
                        raise FetchError(f"{host_of(url)} sent more than {most} bytes for {url_name(url)}")
            return self._checked(url, response), bytes(body)

        return self._retried(url, headers, attempt)

    @contextmanager
    def get_stream(self, url: str, *, headers: Mapping[str, str] | None = None) -> Iterator[Response]:
        """Give a response whose body is still to be read, for unearth; downloads use ``open``."""
        with self.client.stream("GET", url, headers=headers) as response:
            yield response

    def iter_secure_origins(self) -> Iterable[tuple[str, str, str]]:
        """Return scheme, host and port of the secure origins, for unearth."""
        return self.client.iter_secure_origins()

    @contextmanager
    def open(self, url: str, *, start: int = 0, end: int | None = None) -> Iterator[Response]:
        """Try once to read ``url`` from byte ``start`` to byte ``end`` (exclusive); the status is 200, 206 or 416.

        ``iter_body`` reads the body. Raises TransientFailure if another try may succeed, else FetchError.
        """
        last = "" if end is None else end - 1
        wanted = {"Range": f"bytes={start}-{last}"} if start or end is not None else {}
        headers = {"Accept-Encoding": "identity", **wanted}
        url, headers = self._at_hub(url, headers)
        with ExitStack() as stack:
            with self._translated(url):
                response = stack.enter_context(self.client.stream("GET", url, headers=headers))
            if response.status_code not in {200, 206, 416}:
                raise self._failed(url, response)
            yield response

    def iter_body(self, url: str, response: Response) -> Iterator[bytes]:
        """Yield the body as stored on the server, in chunks. Raises TransientFailure if it breaks off."""
        with self._translated(url):
            yield from response.iter_raw()

    def wait(self, failure: TransientFailure, tries: int) -> None:
        """Pause before try ``tries + 1`` of a request by ``open``; see `RetryPolicy.wait`."""
        self._retry_policy.wait(failure, tries)

    def find_size(self, url: str) -> int | None:
        """Return the size of the file at ``url`` without downloading it, or None if the server does not report it."""
        response = self.head(url, headers={"Accept-Encoding": "identity"})
        length = find_number(response.headers.get("Content-Length", ""))
        if response.status_code == 200 and length is not None:
            return length
        headers = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
        try:
            with self._translated(url), self.get_stream(url, headers=headers) as response:
                total = response.headers.get("Content-Range", "").rpartition("/")[2]
        except TransientFailure as failure:
            raise failure.error from None
        return find_number(total) if response.status_code == 206 else None

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    @property
    def client(self) -> PyPIClient:
        """The client, made on first use: importing it takes a tenth of a second."""
        with self._lock:
            if self._made is None:
                self._made = make_client(self._sources)
            return self._made

    def _whole(self, method: str, url: str, headers: Mapping[str, str] | None) -> Response:
        def attempt(url: str, headers: dict[str, str]) -> Response:
            return self._checked(url, self.client.request(method, url, headers=headers))

        return self._retried(url, headers, attempt)

    def _retried(
        self, url: str, headers: Mapping[str, str] | None, attempt: Callable[[str, dict[str, str]], _Result]
    ) -> _Result:
        tries = 0
        url, own_headers = self._at_hub(url, dict(headers or {}))
        while True:
            self._retry_policy.check()
            tries += 1
            try:
                with self._translated(url):
                    return attempt(url, own_headers)
            except TransientFailure as failure:
                self._retry_policy.wait(failure, tries)

    def _checked(self, url: str, response: Response) -> Response:
        if response.status_code in _TRANSIENT:
            raise self._failed(url, response)
        if response.status_code in _REFUSED:
            self.refused.add(host_of(url))
        return response

    def public_hub_url(self, url: str) -> str:
        """Return a URL that the hub of the settings gave as one of the public hub; others as they are."""
        own = f"{self._sources.hub}/"
        return f"{HUB}/{url.removeprefix(own)}" if url.startswith(own) else url

    def _at_hub(self, url: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
        """Return a URL of the model hub at the hub of the settings, with the token; any other as it is.

        The client drops the token where it is redirected to another host.
        """
        if not url.startswith(f"{HUB}/"):
            return url, headers
        from buildkit.tools.hub_user import check_online

        check_online()
        token = self.find_hub_token()
        secret = {"Authorization": f"Bearer {token}"} if token else {}
        return self._sources.hub + url.removeprefix(HUB), {**headers, **secret}

    def find_hub_token(self) -> str:
        """Return the token for the hub: that of the settings, else that of the user's log-in, asked once."""
        if self._sources.hub_token:
            return self._sources.hub_token
        with self._lock:
            if self._hub_token is None:
                from buildkit.tools.hub_user import find_token

                self._hub_token = find_token()
            return self._hub_token

    def _is_of_hub(self, url: str) -> bool:
        return url.startswith((f"{self._sources.hub}/", f"{HUB}/"))

    @contextmanager
    def _translated(self, url: str) -> Iterator[None]:
        import httpx2

        host = host_of(url)
        named = "HF_ENDPOINT, which names the hub, and the" if self._is_of_hub(url) else "the index,"
        hint = f"check the network, and {named} proxy and certificate settings of pip and uv"
        try:
            yield
        except httpx2.TransportError as error:
            reason = _reason(error)
            if "CERTIFICATE_VERIFY_FAILED" in reason:
                hint = "set SSL_CERT_FILE or PIP_CERT to a file with your certificate authority"
                raise FetchError(f"the certificate of {host} is not trusted", hint=hint) from None
            failure = FetchError(f"cannot download from {host}: {reason}", hint=hint)
            if isinstance(error, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError):
                raise failure from None
            connecting = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError)
            raise TransientFailure(failure, connecting=connecting) from None
        except (httpx2.TooManyRedirects, httpx2.DecodingError, httpx2.InvalidURL) as error:
            raise FetchError(f"cannot download from {host}: {_reason(error)}", hint=hint) from None

    def _failed(self, url: str, response: Response) -> FetchError | TransientFailure:
        host, status = host_of(url), response.status_code
        at_hub = self._is_of_hub(url)
        if status in _REFUSED:
            self.refused.add(host)
            hint = "put credentials for it into netrc, a keyring, or the index settings of pip or uv"
            return FetchError(f"{host} refused with {status}", hint=_HUB_HINTS[401] if at_hub else hint)
        hint = _HUB_HINTS.get(status, "") if at_hub else ""
        failure = FetchError(f"{host} answered {status} for {url_name(url)}", hint=hint)
        if status not in _TRANSIENT:
            return failure
        return TransientFailure(failure, wait=float(find_number(response.headers.get("Retry-After", "")) or 0))


def url_name(url: str) -> str:
    """Return the file name at the end of ``url``."""
    return url.partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2]


def make_carried_client(carry: Callable[[str], tuple[int, Mapping[str, str], bytes]]) -> Client:
    """Return a client for another library: ``carry`` answers each GET with status, headers and decoded body."""
    import httpx2

    class _Carrier(httpx2.BaseTransport):
        def handle_request(self, request: httpx2.Request) -> Response:
            status, headers, body = carry(str(request.url))
            kept = {name: value for name, value in headers.items() if name.lower() not in _OF_BODY}
            return httpx2.Response(status, headers=kept, content=body)

    return httpx2.Client(transport=_Carrier(), trust_env=False)


def make_client(sources: PackageSources) -> PyPIClient:
    """Return unearth's HTTP client with certificates, proxy, time-outs and credentials (index URLs, netrc, keyring)."""
    from unearth.auth import MultiDomainBasicAuth
    from unearth.fetchers import PyPIClient

    client_cert = sources.pip.client_cert or sources.uv.client_cert
    client = PyPIClient(
        trusted_hosts=sources.trusted_hosts,
        verify=_verification(sources.cert, client_cert),
        timeout=sources.pip.timeout or _DEFAULT_TIMEOUT,
        follow_redirects=True,
        proxy=sources.pip.proxy or None,
    )
    client.auth = MultiDomainBasicAuth(prompting=False, index_urls=sources.index_urls)
    return client


def _verification(cert: str, client_cert: str) -> ssl.SSLContext | bool:
    import ssl  # only needed to fetch

    hint = "see PIP_CERT, PIP_CLIENT_CERT, SSL_CERT_FILE and pip's configuration"
    for path in (cert, client_cert):
        if path and not Path(path).exists():
            raise DefinitionError(f"{path}: there is no such certificate file", hint=hint)
    if not cert and not client_cert:
        return True
    context = ssl.create_default_context()
    try:
        if cert:
            folder = Path(cert).is_dir()
            context.load_verify_locations(cafile=None if folder else cert, capath=cert if folder else None)
        if client_cert:
            context.load_cert_chain(client_cert)
    except OSError as error:  # ssl's own errors among them
        places = " or ".join(path for path in (cert, client_cert) if path)
        raise DefinitionError(f"{places}: not certificates in PEM: {error.strerror or error}", hint=hint) from error
    return context


def _reason(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text if "://" not in text else type(error).__name__
