"""Patterns of secrets: self-describing tokens, keys, and values that only their names and entropy give away.

A pattern is *distinct* if hardly anything else matches it; it is then searched for in every file. The others are
searched for in what people write (configuration, environment, their own code), not in what a distribution or an index
publishes, whose examples and tests are full of passwords that are not real.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Match = re.Match[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A kind of secret; one of the lower-case ``needles`` must occur before the slower ``regex`` is tried.

    The secret is its group ``secret``, else the whole match; ``accept`` may reject a match.
    """

    sort: str
    needles: tuple[bytes, ...]
    regex: re.Pattern[bytes]
    accept: Callable[[Match], bool] | None = None


def entropy(value: bytes) -> float:
    """Return Shannon entropy in bits a byte: words have about 3, random letters and digits of such length over 3.5."""
    counts = Counter(value)
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values()) if value else 0.0


_DUMMY = re.compile(
    rb"(?i)example|sample|dummy|placeholder|changeme|change_me|replace|redacted|insert|your[_-]?|my[_-]?(?:secret|token|pass)"
    rb"|x{5,}|\*{3,}|\.{3,}|0{8,}|1234567|abcdefg|<[^>]*>|\$\{|\$\(|\{\{|%\(|%s|\{[a-z_]*\}|^\$[A-Za-z_]"
)


def is_dummy(value: bytes) -> bool:
    """Return whether a value is a placeholder: an example, a variable, a run of the same letter."""
    return bool(_DUMMY.search(value)) or len(set(value)) < 6


def _real(match: Match) -> bool:
    return not is_dummy(find_secret(match))


def find_secret(match: Match) -> bytes:
    """Return the secret part of a match."""
    return match["secret"] if "secret" in match.re.groupindex else match[0]


def _random(least: float) -> Callable[[Match], bool]:
    return lambda match: not is_dummy(find_secret(match)) and entropy(find_secret(match)) >= least


_BODY = re.compile(rb"[A-Za-z0-9+/=]")


def _has_body(match: Match) -> bool:
    """Return whether a key follows its first line: programs that read keys contain only that line.

    Header lines (``Proc-Type: …``) may come between; in JSON and in variables, line breaks are written ``\\n``.
    """
    text = match.string[match.end() : match.end() + 600].replace(b"\\n", b"\n")
    end = text.find(b"-----")
    body = b"".join(line for line in text[: end if end >= 0 else None].split() if b":" not in line)
    letters = b"".join(_BODY.findall(body))
    return len(letters) >= 40 and len(letters) >= 0.9 * len(body) and len(set(letters)) >= 12


def _is_jwt(match: Match) -> bool:
    """Return whether the first of the three parts names an algorithm."""
    head, claims, _ = match[0].split(b".", 2)
    try:
        decoded = json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))
        base64.urlsafe_b64decode(claims + b"=" * (-len(claims) % 4))
    except (ValueError, binascii.Error, RecursionError):
        return False
    jwt_io = b"IkpvaG4gRG9l"  # "John Doe", the example of jwt.io
    return isinstance(decoded, dict) and "alg" in decoded and jwt_io not in match[0]


_WORD = rb"(?<![A-Za-z0-9_-])"
_END = rb"(?![A-Za-z0-9_-])"


def _token(sort: str, needle: bytes, body: bytes, least: float = 3.0) -> Pattern:
    regex = re.compile(_WORD + body + _END)
    return Pattern(sort=sort, needles=(needle.lower(),), regex=regex, accept=_random(least))


_KEY_LINE = rb"-----BEGIN (?:(?:RSA|DSA|EC|OPENSSH|ENCRYPTED|ANY|SSH2 ENCRYPTED) )?PRIVATE KEY(?: BLOCK)?-----"
_PGP = rb"-----BEGIN PGP PRIVATE KEY BLOCK-----"

DISTINCT = (
    Pattern(
        sort="private key", needles=(b"private key",), regex=re.compile(_KEY_LINE + rb"|" + _PGP), accept=_has_body
    ),
    Pattern(
        sort="PuTTY private key",
        needles=(b"putty-user-key-file",),
        regex=re.compile(rb"PuTTY-User-Key-File-[23]: [a-z0-9-]{3,30}[\r\n]"),
    ),
    _token("AWS access key id", b"AKIA", rb"AKIA[A-Z2-7]{16}"),
    _token("AWS temporary access key id", b"ASIA", rb"ASIA[A-Z2-7]{16}"),
    Pattern(
        sort="AWS secret access key",
        needles=(b"aws_secret_access_key", b"secretaccesskey", b"aws_secret_key"),
        regex=re.compile(
            rb"(?i:aws_secret_access_key|aws_secret_key|SecretAccessKey)[\"']?\s{0,5}[:=]\s{0,5}[\"']?"
            rb"(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])"
        ),
        accept=_random(3.5),
    ),
    _token("Google API key", b"AIza", rb"AIza[0-9A-Za-z_-]{35}"),
    _token("Google OAuth client secret", b"GOCSPX-", rb"GOCSPX-[0-9A-Za-z_-]{28}"),
    Pattern(
        sort="Azure storage key",
        needles=(b"accountkey=",),
        regex=re.compile(rb"AccountKey=(?P<secret>[A-Za-z0-9+/]{86}==)"),
        accept=_random(4.0),
    ),
    _token("GitHub token", b"ghp_", rb"ghp_[A-Za-z0-9]{36,251}"),
    _token("GitHub OAuth token", b"gho_", rb"gho_[A-Za-z0-9]{36,251}"),
    _token("GitHub app token", b"ghs_", rb"ghs_[A-Za-z0-9]{36,251}"),
    _token("GitHub user token", b"ghu_", rb"ghu_[A-Za-z0-9]{36,251}"),
    _token("GitHub refresh token", b"ghr_", rb"ghr_[A-Za-z0-9]{36,251}"),
    _token("GitHub fine-grained token", b"github_pat_", rb"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    _token("GitLab token", b"glpat-", rb"glpat-[A-Za-z0-9_.-]{20,300}"),
    _token("GitLab deploy token", b"gldt-", rb"gldt-[A-Za-z0-9_-]{20,50}"),
    _token("GitLab runner token", b"glrt-", rb"glrt-[A-Za-z0-9_.-]{20,300}"),
    _token("GitLab CI job token", b"glcbt-", rb"glcbt-[A-Za-z0-9_-]{20,300}"),
    _token("Hugging Face token", b"hf_", rb"hf_[A-Za-z0-9]{34}", 3.5),
    _token("Hugging Face organisation token", b"api_org_", rb"api_org_[A-Za-z0-9]{34}", 3.5),
    _token("Slack token", b"xox", rb"xox[abeoprs]-[0-9A-Za-z-]{20,250}"),
    _token("Slack app token", b"xapp-", rb"xapp-[0-9]-[A-Z0-9]{5,20}-[0-9]{5,20}-[a-f0-9]{20,80}"),
    Pattern(
        sort="Slack webhook",
        needles=(b"hooks.slack.com/services/t",),
        regex=re.compile(rb"hooks\.slack\.com/services/T[A-Z0-9]{6,14}/B[A-Z0-9]{6,14}/[A-Za-z0-9]{20,30}"),
        accept=_real,
    ),
    _token("OpenAI key", b"T3BlbkFJ", rb"sk-[A-Za-z0-9_-]{16,100}T3BlbkFJ[A-Za-z0-9_-]{16,100}"),
    _token("Anthropic key", b"sk-ant-", rb"sk-ant-[a-z0-9]{3,10}-[A-Za-z0-9_-]{80,120}"),
    _token("Stripe live key", b"k_live_", rb"[rs]k_live_[0-9A-Za-z]{24,120}"),
    _token("PyPI token", b"pypi-AgEI", rb"pypi-AgEI[A-Za-z0-9_-]{60,500}"),
    _token("npm token", b"npm_", rb"npm_[A-Za-z0-9]{36}", 3.5),
    _token("Docker Hub token", b"dckr_pat_", rb"dckr_pat_[A-Za-z0-9_-]{27}"),
    _token("SendGrid key", b"SG.", rb"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}", 3.5),
    _token("DigitalOcean token", b"_v1_", rb"do[opr]_v1_[a-f0-9]{64}"),
    _token("Databricks token", b"dapi", rb"dapi[a-f0-9]{32}(?:-[0-9])?"),
    _token("Vault token", b"hvs.", rb"hvs\.[A-Za-z0-9_-]{24,200}", 3.5),
    _token("age key", b"age-secret-key-1", rb"AGE-SECRET-KEY-1[A-Z0-9]{58}"),
)

_NAME = (
    rb"(?i:[A-Za-z0-9_.-]{0,40}(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|auth[_-]?key"
    rb"|private[_-]?key|client[_-]?secret|credential)s?(?:[_-]?(?:key|value|id))?)"
)
_NAMES = (b"passw", b"passphrase", b"secret", b"token", b"key", b"credential")
_QUOTED = re.compile(
    rb"(?<![A-Za-z0-9_.-])"
    + _NAME
    + rb"[\"']?\s{0,8}(?::|=|=>|:=)\s{0,8}(?P<quote>[\"'])(?P<secret>[^\"'\s]{16,300})(?P=quote)"
)
_BARE = re.compile(
    rb"(?m)^[ \t]{0,40}(?:export[ \t]{1,4})?"
    + _NAME
    + rb"[ \t]{0,8}[:=][ \t]{0,8}(?P<secret>[^\"'\s#;,(){}\[\]<>]{16,300})[ \t]*\r?$"
)
_URL = re.compile(
    rb"(?<![A-Za-z0-9+.-])[a-z][a-z0-9+.-]{1,20}://(?P<user>[^\s:@/\"'<>?#]{0,100}):(?P<secret>[^\s:@/\"'<>?#]{3,200})@"
    rb"(?P<host>[A-Za-z0-9\[][A-Za-z0-9.:\]-]{0,200})"
)
_PLAIN_PASSWORDS = frozenset(
    (b"password", b"passwd", b"pass", b"pwd", b"secret", b"token", b"pw", b"user", b"username")
)


_NO_VALUE = re.compile(
    rb"[a-z_.:/-]+|[A-Z_.:/-]+|[\w.]+\([^)]*\)?|[/~][\w./-]+"  # words, calls, paths
    rb"|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+"  # names with dots
    rb"|[^:]*(?::[^:]*){4,}"  # lines of /etc/passwd, lists of folders
)


def _is_value(match: Match) -> bool:
    """Return whether a value looks generated: digits and letters of both cases, or hexadecimal, with high entropy."""
    value = find_secret(match)
    if is_dummy(value) or _NO_VALUE.fullmatch(value) or b"public" in match[0].lower():
        return False
    classes = [re.search(mark, value) is not None for mark in (rb"[a-z]", rb"[A-Z]", rb"[0-9]", rb"[^A-Za-z0-9]")]
    return sum(classes[:3]) >= 2 and bool(classes[2]) and entropy(value) >= (3.0 if _is_hex(value) else 3.5)


def _is_hex(value: bytes) -> bool:
    return re.fullmatch(rb"[0-9a-fA-F]{16,}", value) is not None


def _is_login(match: Match) -> bool:
    value, host = match["secret"], match["host"].lower()
    example = host.split(b":")[0] in (b"host", b"hostname", b"server", b"proxy", b"ip") or b"example" in host
    return not example and not is_dummy_password(value)


def is_dummy_password(value: bytes) -> bool:
    """Return whether a password is a placeholder; see ``is_dummy``, but passwords may be short."""
    return bool(_DUMMY.search(value)) or value.lower() in _PLAIN_PASSWORDS


WRITTEN = (
    Pattern(
        sort="JSON web token",
        needles=(b"eyj",),
        regex=re.compile(_WORD + rb"eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{20,1000}"),
        accept=_is_jwt,
    ),
    Pattern(sort="password in a URL", needles=(b"://",), regex=_URL, accept=_is_login),
    Pattern(sort="secret value", needles=_NAMES, regex=_QUOTED, accept=_is_value),
    Pattern(sort="secret value", needles=_NAMES, regex=_BARE, accept=_is_value),
)
IN_CODE = WRITTEN[:-1]
"""The patterns for programming languages, in which a value without quotes is a name."""


def find_all(data: bytes, patterns: tuple[Pattern, ...]) -> Iterator[tuple[str, int, bytes]]:
    """Yield kind, offset and bytes of the secrets in ``data``."""
    low = data.lower()
    for pattern in patterns:
        if not any(needle in low for needle in pattern.needles):
            continue
        for match in pattern.regex.finditer(data):
            if pattern.accept is None or pattern.accept(match):
                yield pattern.sort, match.start(), find_secret(match)
