"""Findings about secrets: in every layer, including deleted files, and in the config."""

from __future__ import annotations

import re
from collections.abc import Iterator

from buildkit.audit import secret_rules as rules
from buildkit.audit.layer_view import Secret
from buildkit.audit.merge import is_gone, whiteouts
from buildkit.audit.secret_files import is_published_test
from buildkit.audit.secret_patterns import DISTINCT, WRITTEN, entropy, find_all, is_dummy_password
from buildkit.audit.secret_scan import is_published, redact
from buildkit.audit.view import ImageView, format_untrusted
from buildkit.findings import Finding, Severity

_GUESSED = frozenset(
    ("secret value", "password in a URL", "JSON web token", "shell history", "key store", "variable in .env")
)
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|APIKEY|CREDENTIALS?|(?:API|ACCESS|AUTH|PRIVATE|SECRET)_KEY)(?:_|$)",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(r"(?i)true|false|none|null|yes|no|on|off|auto|[0-9.]+|[/~.].*|\$.*|https?://[^@]*")
_FILE = ("_FILE", "_PATH", "_DIR", "_URL", "_TYPE", "_NAME", "_LIMIT", "_TTL", "_ID")
_ASSIGNED = re.compile(
    r"(?<![A-Za-z0-9_-])(?:--)?([A-Za-z][A-Za-z0-9_-]{2,60})(?:=|(?<=[a-z]) )[\"']?([^\s\"';&|]{6,300})"
)
_REPOSITORY = re.compile(r"(?:^|/)\.(?:git|hg|svn)$")


def check_secrets(view: ImageView) -> Iterator[Finding]:
    """Check for secrets in layers and config, and for the history of repositories."""
    for number, layer in enumerate(view.layers):
        for secret in layer.secrets:
            yield _in_layer(view, secret)
        for entry in layer.entries:
            if entry.kind == "folder" and _REPOSITORY.search(entry.path):
                what = f"/{format_untrusted(entry.path)}{_format_removal(view, entry.path, number)}"
                yield Finding(
                    rule=rules.REPOSITORY, what=what, path=format_untrusted(entry.path, 4096), layer=layer.digest
                )
    yield from _in_config(view)


def _in_layer(view: ImageView, secret: Secret) -> Finding:
    layer = view.layers[secret.layer].digest
    more = f", and {secret.more} more" if secret.more else ""
    what = f"{secret.sort} {secret.shown}".rstrip() + more + _format_removal(view, secret.place, secret.layer)
    test = secret.sort in ("private key", "key store") and is_published_test(secret.place)
    test = test or (secret.sort == "key store" and is_published(secret.place))
    return Finding(
        rule=rules.SECRET_KEYS if test else rules.SECRET_FILE,
        what=what,
        path=format_untrusted(secret.place, 4096),
        offset=secret.offset,
        layer=layer,
        override=Severity.HIGH if secret.sort in _GUESSED and not test else None,
    )


def _format_removal(view: ImageView, path: str, layer: int) -> str:
    """Describe where a later layer deletes or replaces the file of this one; empty if none does."""
    for above in view.layers[layer + 1 :]:
        removed, opaque = whiteouts(above)
        if (removed or opaque) and is_gone(path, removed, opaque):
            return f"; layer {above.digest.removeprefix('sha256:')[:12]} deletes it, but it remains in the image"
    entry = view.files.get(path)
    return "; a later layer replaces it, but it remains in the image" if entry and entry.layer > layer else ""


def _in_config(view: ImageView) -> Iterator[Finding]:
    config = view.config
    for name, value in config.env:
        yield from _check_text(f"env {format_untrusted(name, 80)}", f"{name}={value}", is_named_secret(name, value))
    for name, value in config.labels:
        yield from _check_text(f"label {format_untrusted(name, 80)}", f"{name}={value}", is_named_secret(name, value))
    for part, words in (("command", config.argv), ("healthcheck", config.healthcheck or ())):
        yield from _check_text(part, " ".join(words), _has_named_secret(" ".join(words)))
    for number, line in enumerate(config.history, 1):
        yield from _check_text(f"history {number}", line.created_by, _has_named_secret(line.created_by))


def _check_text(part: str, text: str, named: str) -> Iterator[Finding]:
    """Yield at most one finding for a text: a self-describing secret, else a value named as one."""
    data = text[: 1 << 20].encode("utf-8", "replace")
    for sort, _, secret in find_all(data, DISTINCT + WRITTEN):
        override = Severity.HIGH if sort in _GUESSED else None
        what = f"{sort} {redact(secret)}"
        yield Finding(rule=rules.SECRET_CONFIG, what=what, path=f"config: {part}", override=override)
        return
    if named:
        what = f"a value {redact(named.encode('utf-8', 'replace'))} with the name of a secret"
        yield Finding(rule=rules.SECRET_CONFIG, what=what, path=f"config: {part}", override=Severity.HIGH)


def is_named_secret(name: str, value: str) -> str:
    """Return the value if its name marks it as secret and it is not a placeholder; else empty."""
    upper = name.upper().replace("-", "_").replace(".", "_")
    if not _SECRET_NAME.search(upper) or upper.endswith(_FILE) or len(value) < 6 or _NO_SECRET.fullmatch(value):
        return ""
    raw = value.encode("utf-8", "replace")
    return "" if is_dummy_password(raw) or entropy(raw) < 1.5 else value


def _has_named_secret(text: str) -> str:
    return next(filter(None, (is_named_secret(name, value) for name, value in _ASSIGNED.findall(text[: 1 << 20]))), "")
