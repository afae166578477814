"""Log-ins of registries, found as containers/image finds them (pkg/docker/config; containers-auth.json(5)).

Also Docker's ``credsStore``, of Docker's own file. Secrets are in no message and in no ``repr``.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildkit.errors import BuildError
from buildkit.oci.reference import Ref
from buildkit.tools.distribution.left_to_skopeo import LeftToSkopeo
from buildkit.tools.distribution.registries_conf import AUTH_FILES
from buildkit.tools.process import Command, run

_DOCKER_HUB = frozenset(("docker.io", "index.docker.io", "registry-1.docker.io"))
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"  # noqa: S105 - by which a helper says that the secret is an identity token


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryLogin:
    """A user with a password, or an identity token (OAuth 2); neither for no log-in."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.user or self.password or self.identity_token)

    def basic(self) -> str:
        """Return the value of an ``Authorization`` header."""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class _AuthFile:
    path: Path
    legacy: bool = False  # ~/.dockercfg: hosts only
    docker: bool = False  # Docker's own: may name a store of credentials


def find_login(ref: Ref, helpers: tuple[str, ...]) -> RegistryLogin:
    """Return the log-in for a repository; an empty one if there is none.

    ``helpers`` are credential helpers (registries.conf(5)). Raises LeftToSkopeo for files and helpers that fail.
    """
    for helper in helpers:
        login = _find_in_files(ref) if helper == AUTH_FILES else _ask_helper(helper, ref.host)
        if login:
            return login
    return RegistryLogin()


def _find_in_files(ref: Ref) -> RegistryLogin:
    for file in _auth_files():
        if login := _find_in_file(ref, file):
            return login
    return RegistryLogin()


def _auth_files() -> Iterator[_AuthFile]:
    if explicit := os.environ.get("REGISTRY_AUTH_FILE"):
        yield _AuthFile(Path(explicit))
        return
    home, environ = Path.home(), os.environ
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.getuid()}"
    yield _AuthFile(Path(runtime, "containers/auth.json" if environ.get("XDG_RUNTIME_DIR") else "auth.json"))
    yield _AuthFile(Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "containers/auth.json"))
    yield _AuthFile(Path(environ.get("DOCKER_CONFIG") or home / ".docker", "config.json"), docker=True)
    yield _AuthFile(home / ".dockercfg", legacy=True)


def _find_in_file(ref: Ref, file: _AuthFile) -> RegistryLogin:
    value = _load(file.path)
    auths = value if file.legacy else _table(file.path, value, "auths")
    helper = _table(file.path, value, "credHelpers").get(ref.host) if not file.legacy else None
    if helper is not None:
        return _ask_helper(str(helper), ref.host)
    for key in _keys(ref, auths, legacy=file.legacy):
        if key in auths:
            return _decode(file.path, auths[key]) or _ask_store(ref, file, value)
    return _ask_store(ref, file, value)


def _ask_store(ref: Ref, file: _AuthFile, value: Mapping[str, Any]) -> RegistryLogin:
    store = value.get("credsStore") if file.docker else None
    return (
        _ask_helper(str(store), _DOCKER_HUB_KEY if ref.host in _DOCKER_HUB else ref.host) if store else RegistryLogin()
    )


def _keys(ref: Ref, auths: Mapping[str, Any], *, legacy: bool) -> Iterator[str]:
    """Yield the keys that match a repository, the most specific first; URLs stand for their hosts."""
    parts = ref.repository.split("/")
    yield from (ref.host,) if legacy else ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
    yield from (key for key in auths if _is_same_host(_host_of(key, legacy=legacy), ref.host))


def _host_of(key: str, *, legacy: bool) -> str:
    bare = key.removeprefix("http://").removeprefix("https://")
    return bare.partition("/")[0] if legacy or bare != key else bare


def _is_same_host(one: str, other: str) -> bool:
    return one == other or {one, other} <= _DOCKER_HUB


def _load(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError):
        raise LeftToSkopeo(f"{path} cannot be read") from None  # the error could quote the file
    if not isinstance(value, dict):
        raise LeftToSkopeo(f"{path} is not a file of log-ins")
    return value


def _table(path: Path, value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = value.get(key)
    table = {} if table is None else table
    if not isinstance(table, dict):
        raise LeftToSkopeo(f"{path}: `{key}` is not an object")
    return table


def _decode(path: Path, entry: object) -> RegistryLogin:
    fields = entry if isinstance(entry, dict) else {}
    try:
        user, colon, password = base64.b64decode(str(fields.get("auth") or ""), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise LeftToSkopeo(f"{path}: an `auth` cannot be decoded") from None
    if not colon:  # Docker leaves an empty entry for a log-in that a helper keeps
        return RegistryLogin()
    token = str(fields.get("identitytoken") or "")
    return RegistryLogin(user=user, password=password.strip("\0"), identity_token=token)


def _ask_helper(name: str, server: str) -> RegistryLogin:
    """Ask ``docker-credential-NAME``: the server's name goes in, JSON comes out, and exit code 1 means no log-in."""
    if "/" in name:
        raise LeftToSkopeo("the name of a credential helper is a path")
    command = Command(argv=(f"docker-credential-{name}", "get"), stdin=server.encode(), accept=(0, 1))
    try:
        finished = run(command)
        if finished.code:
            if b"credentials not found" in finished.stdout + finished.stderr:
                return RegistryLogin()
            raise LeftToSkopeo(f"the credential helper `{name}` failed")
        value = json.loads(finished.stdout)
        user, secret = str(value["Username"]), str(value["Secret"])
    except (BuildError, ValueError, KeyError, TypeError):
        raise LeftToSkopeo(f"the credential helper `{name}` failed") from None  # the error could quote its output
    return RegistryLogin(identity_token=secret) if user == _TOKEN_USER else RegistryLogin(user=user, password=secret)
