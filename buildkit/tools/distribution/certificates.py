"""TLS of registries: authorities and client certificates from containers-certs.d(5)."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from buildkit.tools.distribution.left_to_skopeo import LeftToSkopeo

_SYSTEM = ("/etc/containers/certs.d", "/etc/docker/certs.d")
_BUNDLES = (  # of distributions, where this Python's own OpenSSL has none: those that Go's programs read
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def make_tls_context(host: str, *, insecure: bool) -> ssl.SSLContext:
    """Return the TLS context for ``HOST[:PORT]``; an ``insecure`` one accepts any certificate.

    Raises LeftToSkopeo for files that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if insecure else _verifying_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in _find_files(host):
        try:
            if path.suffix == ".crt":
                context.load_verify_locations(cafile=path)
            elif path.suffix == ".cert":
                context.load_cert_chain(path, path.with_suffix(".key"))
            elif path.suffix == ".key" and not path.with_suffix(".cert").exists():
                raise LeftToSkopeo(f"{path} has no certificate beside it")
        except OSError as error:  # ssl's own errors among them
            raise LeftToSkopeo(f"{path} cannot be used") from error
    return context


def _verifying_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # private authorities often lack what RFC 5280 asks for
    if not context.cert_store_stats()["x509_ca"] and not ssl.get_default_verify_paths().capath:
        for bundle in filter(lambda path: Path(path).exists(), _BUNDLES):
            context.load_verify_locations(cafile=bundle)
            break
    return context


def _find_files(host: str) -> Iterator[Path]:
    """Yield the files of the first folder that the host has."""
    for place in (Path.home() / ".config/containers/certs.d", *map(Path, _SYSTEM)):
        folder = place / host
        with suppress(PermissionError):  # as skopeo does
            if folder.exists():
                yield from sorted(folder.iterdir())
                return
