"""Files that are made to hold secrets: their names, and how to find the secret in them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from buildkit.audit.secret_patterns import entropy, is_dummy, is_dummy_password

FindSecret = Callable[[bytes], bytes | None]
"""Find the secret in a file's content; empty if all of the file is secret, None if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFileKind:
    """A kind of file: the end of its path, as a regular expression, and the function that finds its secret."""

    sort: str
    path: re.Pattern[str]
    find: FindSecret


def _find_group(expression: bytes) -> FindSecret:
    compiled = re.compile(expression)

    def find(data: bytes) -> bytes | None:
        for found in compiled.finditer(data):
            if not is_dummy_password(found["secret"]):
                return found["secret"]
        return None

    return find


def _find_docker_login(data: bytes) -> bytes | None:
    """Find a login of docker, podman or skopeo: ``{"auths": {HOST: {"auth": …}}}``, or the same without ``auths``."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    hosts = value.get("auths", value) if isinstance(value, dict) else None
    for login in hosts.values() if isinstance(hosts, dict) else ():
        values = (
            [login.get(key) for key in ("auth", "identitytoken", "password", "registrytoken")]
            if isinstance(login, dict)
            else []
        )
        for secret in values:
            if isinstance(secret, str) and secret:
                return secret.encode("utf-8", "replace")
    return None


def _find_env_secret(data: bytes) -> bytes | None:
    for found in re.finditer(
        rb"(?m)^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]{0,80})=[\"']?([^\s\"'#]{1,300})", data
    ):
        name, value = found[1].lower(), found[2]
        secret = re.search(rb"passw|secret|token|key|credential|_dsn$|database_url", name)
        if secret and len(value) >= 6 and not is_dummy_password(value) and not value.isdigit():
            return value
    return None


def _find_token(data: bytes) -> bytes | None:
    value = data.strip()
    fits = 16 <= len(value) <= 400 and b"\n" not in value and not is_dummy(value)
    return value if fits and entropy(value) >= 3.0 else None


def _find_any(data: bytes) -> bytes | None:
    return b"" if data.strip() else None


def _kind(sort: str, path: str, find: FindSecret) -> SecretFileKind:
    return SecretFileKind(sort=sort, path=re.compile(rf"(?:^|/){path}\Z"), find=find)


_URL = rb"://[^\s:@/]{0,100}:(?P<secret>[^\s@/]{1,200})@"
_AWS = rb"(?m)^\s*aws_secret_access_key\s*=\s*(?P<secret>\S{1,200})"
_CLUSTER = rb"(?m)^\s*(?:token|client-key-data|password):\s*(?P<secret>\S{1,300})"
_GCLOUD = rb"\"(?:refresh_token|private_key)\"\s*:\s*\"(?P<secret>[^\"]{1,300})"

SECRET_FILE_KINDS = (
    _kind("login in .netrc", r"[._]netrc", _find_group(rb"\bpassword\s+(?P<secret>\S{1,200})")),
    _kind("login to a package index", r"pip\.(?:conf|ini)|uv\.toml|\.condarc", _find_group(_URL)),
    _kind("login in .pypirc", r"\.pypirc", _find_group(rb"(?m)^\s*password\s*[:=]\s*(?P<secret>\S{1,300})")),
    _kind("login to a registry", r"\.docker/config\.json|\.dockercfg|containers/auth\.json", _find_docker_login),
    _kind("git login", r"\.git-credentials|git/credentials", _find_group(_URL)),
    _kind("npm login", r"\.npmrc", _find_group(rb"_(?:authToken|auth|password)\s*=\s*(?P<secret>[^\s$]{1,300})")),
    _kind("cloud credentials", r"\.aws/credentials", _find_group(_AWS)),
    _kind(
        "cloud credentials",
        r"gcloud/(?:application_default_credentials|credentials)\.(?:json|db)",
        _find_group(_GCLOUD),
    ),
    _kind("cloud credentials", r"\.azure/(?:accessTokens|msal_token_cache)\.(?:json|bin)", _find_any),
    _kind("cluster login", r"\.kube/config", _find_group(_CLUSTER)),
    _kind("Hugging Face token", r"huggingface/(?:token|stored_tokens)|\.huggingface/token", _find_token),
    _kind("variable in .env", r"\.env(?:\.[a-z]+)?", _find_env_secret),
    _kind("key store", r"[^/]+\.(?:p12|pfx|jks|keystore|kdbx)", _find_any),
    _kind("SSH host key", r"etc/ssh/ssh_host_[a-z0-9]+_key", _find_any),
    _kind("shell history", r"\.(?:bash|zsh|python|sqlite|psql|mysql)_history", _find_any),
)
MOST = 1 << 20  # bytes of such a file that are searched
_NAMES = re.compile("|".join(f"(?:{kind.path.pattern})" for kind in SECRET_FILE_KINDS))


def find_secret_file_kind(path: str) -> SecretFileKind | None:
    """Return the kind of secret file by its path (``etc/pip.conf``), or None."""
    if _NAMES.search(path) is None:
        return None
    return next((kind for kind in SECRET_FILE_KINDS if kind.path.search(path)), None)


def is_published_test(path: str) -> bool:
    """Return whether a file is among an installed package's tests, examples or documentation, which are published."""
    inner = re.search(r"(?:site|dist)-packages/(.*)|/lib/python3[^/]*/(.*)|^usr/(?:lib|share)/(.*)", path)
    rest = next(filter(None, inner.groups()), "") if inner else ""
    folder, _, name = rest.lower().rpartition("/")
    is_text = folder not in ("", "site-packages", "dist-packages") and (
        name.startswith("example") or name.endswith((".rst", ".md"))
    )
    return is_text or any(part in _TESTS for part in folder.split("/"))


_TESTS = frozenset(
    ("test", "tests", "testing", "testdata", "test_data", "fixtures", "examples", "example", "doc", "docs")
)
