"""What fails at registries: time limits, and errors that name the host, the repository, the action and a way out."""

from __future__ import annotations

import re
from dataclasses import dataclass

from buildkit.errors import RegistryError
from buildkit.oci.reference import Ref

MOST_WORDS = 600
SLOW = re.compile(r"deadline exceeded|timeout|nothing came or went")
LIMITED = re.compile(r"too ?many ?requests", re.IGNORECASE)
TRANSIENT = re.compile(
    r"\b50[0-9] |StatusCode: 5|invalid status code from registry 5|\bEOF\b|connection re(?:fused|set)|broken pipe"
    r"|use of closed network connection|[Tt]emporary failure|blob upload (?:unknown|invalid)|digest invalid"
)
PLAIN = "HTTP response to HTTPS|not look like a TLS handshake"
LOST = "manifest blob unknown"
_UNREACHABLE = re.compile(rf"no such host|dial tcp|x509|{PLAIN}")
_DENIED = re.compile(r"unauthorized|authentication required|denied|\b40[13]\b|invalid username/password")
_ABSENT = re.compile(r"(?:manifest|name) unknown")
_SECRETS = re.compile(
    r"(?<=://)[^/@\s\"]+@|(?<=[\w/=-])\?[^\s\"]+"
)  # of a URL: the user, and a query that may be signed
_HINTS = (
    (r"unauthorized|authentication required|invalid username", "log in: skopeo login {host}"),
    (r"denied|\b40[35]\b|unsupported", "may this log-in do that there? log in as another: skopeo login {host}"),
    (PLAIN, "if it has no TLS, say `insecure = true` for {host} in registries.conf(5)"),
    (r"x509|certificate", "put its authority into /etc/containers/certs.d/{host}/ca.crt, see containers-certs.d(5)"),
    (r"invalid reference format", "does this skopeo read addresses of IPv6? give {host} a name"),
    (r"no such host", "is the name right, and does this network resolve it?"),
    (LIMITED.pattern, "it limits requests: log in, or wait"),
    (r"file too large", "somebody with write access has replaced it"),
    (r"connection refused|deadline exceeded|timeout|came or went", "is it running, and reachable from here?"),
    (r"no space|quota|\b413\b", "is its storage full, or a layer larger than it takes?"),
    (LOST, "it has lost blobs that it claims to have: ask its operator, or push to another repository"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryTimeouts:
    """Time limits in seconds: of a look-up, of a stall while blobs are moved, and ``waits`` before each retry.

    The limits include waiting for a registry that limits requests. A registry may process a large blob for a long time
    after receiving it.
    """

    look: float = 60.0
    fetch: float = 90.0
    push: float = 600.0
    waits: tuple[float, ...] = (0.5, 1.5, 4.0)


TIMEOUTS = RegistryTimeouts()


def registry_error(ref: Ref, action: str, message: str) -> RegistryError:
    """Return the error for an action (``looking up``) that failed; its cause and its hint are read from the message."""
    words = without_names(message, ref)
    hint = next((hint for marks, hint in _HINTS if re.search(marks, words, re.IGNORECASE)), "")
    return RegistryError(
        f"{ref.host}: {action} {ref} failed: {message}",
        hint=hint.format(host=ref.host),
        denied=bool(_DENIED.search(words)),
        down=any(marks.search(words) for marks in (TRANSIENT, SLOW, LIMITED, _UNREACHABLE)),
        absent=bool(_ABSENT.search(words)),
    )


def without_names(message: str, ref: Ref) -> str:
    """Return the message without names, which must not be taken for causes."""
    for name in (str(ref), ref.repository, ref.path, ref.host, f"manifest {ref.tag} "):
        message = message.replace(name, "")
    return message


def without_secrets(text: str) -> str:
    """Return a message as short text without users and queries of URLs, which may be signed, nor control characters."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return _SECRETS.sub("", printable)[:MOST_WORDS]
