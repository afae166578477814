"""A real registry on loopback, with or without password, TLS and writing; `tests.faultyproxy` injects faults."""

from __future__ import annotations

import base64
import json
import random
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.ports import listens
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.tokenservice import TokenService

USER = "tester"
PASSWORD = "secret"
CERTIFIED = "127.0.0.1"
_HASHED = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"  # bcrypt of it, as cheap as bcrypt can be


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A private certificate authority and what it has signed: a certificate for `CERTIFIED` and localhost."""

    ca: Path
    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """Return a TLS context for a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def make_authority(folder: Path) -> Authority:
    """Create authority and certificate in ``folder``, which is empty; only `ca.crt` suits skopeo's `--cert-dir`."""
    (folder / "own").mkdir()
    made = Authority(ca=folder / "ca.crt", certificate=folder / "own/server.crt", key=folder / "own/server.key")
    ca_key = folder / "own/ca.key"
    names = folder / "own/names"
    names.write_text(f"subjectAltName=IP:{CERTIFIED},DNS:localhost\n")
    new = ("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    asked = folder / "own/server.csr"
    sign = ("openssl", "x509", "-req", "-days", "2", "-CA", made.ca, "-CAkey", ca_key, "-CAcreateserial")
    for argv in (
        (*new, "-x509", "-days", "2", "-subj", "/CN=Test CA", "-keyout", ca_key, "-out", made.ca),
        (*new, "-subj", "/CN=localhost", "-keyout", made.key, "-out", asked),
        (*sign, "-extfile", names, "-in", asked, "-out", made.certificate),
    ):
        subprocess.run(argv, check=True, capture_output=True)
    return made


def new_address() -> str:
    """Return a new loopback address, because skopeo remembers for ever which registry had a blob."""
    return f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"


@contextmanager
def serve_registry(
    folder: Path,
    *,
    password: bool = False,
    authority: Authority | None = None,
    writable: bool = True,
    deletable: bool = False,
    tokens: TokenService | None = None,
) -> Iterator[str]:
    """Serve a registry on loopback; yield ``HOST:PORT``, and stop it at the end.

    Pushed content stays in ``folder`` and can be served again. Without ``writable`` every change is answered by 405.
    With ``password`` it requires `USER` and `PASSWORD`, with ``tokens`` bearer tokens; with ``authority`` it uses TLS.
    """
    address = CERTIFIED if authority else new_address()
    with socket.create_server((address, 0)) as server:
        host = f"{address}:{server.getsockname()[1]}"
    storage: dict[str, object] = {"filesystem": {"rootdirectory": str(folder / "data")}}
    storage["delete"] = {"enabled": deletable}
    storage["maintenance"] = {"readonly": {"enabled": not writable}}
    http: dict[str, object] = {"addr": host}
    if authority:
        http["tls"] = {"certificate": str(authority.certificate), "key": str(authority.key)}
    config: dict[str, object] = {"version": "0.1", "log": {"level": "error"}, "storage": storage, "http": http}
    if password:
        (folder / "htpasswd").write_text(f"{USER}:{_HASHED}\n")
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    if tokens:
        config["auth"] = {"token": tokens.registry_settings()}
    (folder / "config.yml").write_text(json.dumps(config))  # YAML holds JSON
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(("docker-registry", "serve", folder / "config.yml"), stdout=log, stderr=log)
    try:
        _await(host, child, folder / "log")
        yield host
    finally:
        child.terminate()
        child.wait()


def write_login(path: Path, *hosts: str, password: str = PASSWORD) -> Path:
    """Write a file for `--authfile` and `REGISTRY_AUTH_FILE`, as log-ins to ``hosts`` would; return its path."""
    login = {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}
    path.write_text(json.dumps({"auths": dict.fromkeys(hosts, login)}))
    return path


def _await(host: str, child: subprocess.Popen[bytes], log: Path) -> None:
    address, _, port = host.partition(":")
    wait_until(lambda: child.poll() is not None or listens(int(port), address), log.read_text)
    assert child.poll() is None, log.read_text()
