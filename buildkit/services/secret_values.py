"""Secrets of an environment: read from their sources, and kept by podman."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from buildkit.declare.services import FILE, ServiceSecret
from buildkit.errors import BuildError, ToolError
from buildkit.running.environment import NamedSecret, RunningEnvironment
from buildkit.services.labels import SUM, environment_labels
from buildkit.store.ledger_key import ensure_ledger_key
from buildkit.tools.podman_objects import create_secret, list_secrets, remove_secret
from buildkit.tools.process import Command, run

_BYTES = 32  # of a generated secret
_MOST = 512_000  # bytes that podman accepts


def read_secrets(named: Iterable[NamedSecret], folder: Path) -> dict[str, bytes]:
    """Return the values of those secrets that have a source, by podman's names; ``folder`` is the project's.

    Raises BuildError if a source has none.
    """
    return {one.name: _read(one.source, folder) for one in named if not one.source.generate}


def _read(secret: ServiceSecret, folder: Path) -> bytes:
    where = f"{FILE}: `secrets.{secret.name}`"
    if secret.env:
        value = os.environ.get(secret.env, "").encode("utf-8", "surrogateescape")
        if not value:
            raise BuildError(f"{where}: the variable {secret.env} is not set", hint=f"export {secret.env}=…")
    elif secret.file:
        path = folder / Path(secret.file).expanduser()
        try:
            value = path.read_bytes().rstrip(b"\r\n")
        except OSError as error:
            hint = "write the secret into it, readable by you alone"
            raise BuildError(f"{where}: {path} cannot be read: {error.strerror}", hint=hint) from None
    else:
        try:
            value = run(Command(argv=secret.command, cwd=folder)).stdout.rstrip(b"\r\n")
        except ToolError as error:
            raise BuildError(f"{where}: {error.message}", hint=error.hint, output=error.output) from None
    if not 0 < len(value) < _MOST:
        raise BuildError(f"{where}: {len(value)} bytes are no secret", hint=f"podman takes 1 to {_MOST} bytes")
    return value


def ensure_secrets(
    environment: RunningEnvironment, values: Mapping[str, bytes], making: Callable[[str], None]
) -> dict[str, str]:
    """Make what podman lacks or has with another value; return podman's ids by name.

    ``making`` is called with the name of each that can be made again, before it is made.

    A generated secret is made once, because a volume may hold what was made with it.
    """
    if not environment.secrets:
        return {}
    labels, sums = environment_labels(environment), _sum(values)
    known = {secret.name: secret for secret in list_secrets()}
    for one in environment.secrets:
        total = sums.get(one.name, "")
        found = known.get(one.name)
        if found and (one.source.generate or hmac.compare_digest(dict(found.labels).get(SUM, ""), total)):
            continue
        if found:
            remove_secret(one.name)
        if total:
            making(one.name)
        value = values[one.name] if total else secrets.token_urlsafe(_BYTES).encode()
        create_secret(one.name, value, (*labels, (SUM, total)))
    return {secret.name: secret.id for secret in list_secrets()}


def remove_secrets(environment: RunningEnvironment, *, generated: bool) -> None:
    """Remove the secrets of an environment; generated ones only with ``generated``, as volumes may need them."""
    own = set(environment_labels(environment))
    for secret in list_secrets():
        if own <= set(secret.labels) and (generated or dict(secret.labels).get(SUM)):
            remove_secret(secret.name)


def _sum(values: Mapping[str, bytes]) -> dict[str, str]:
    """Return a keyed sum of each value, from which nobody without the user's key can guess it."""
    key = ensure_ledger_key().secret if values else b""
    return {name: hmac.digest(key, name.encode() + b"\0" + value, "sha256").hex() for name, value in values.items()}
