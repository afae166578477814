"""Registries through skopeo, which does log-in, TLS, mirrors, proxies and credential helpers.

skopeo retries little of what may pass (a 503, a connection cut in mid-blob), so that is done here, and its words are
made into an error that names the host, the repository and the action.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from buildkit.digest import Digest
from buildkit.errors import BuildError, Interrupted, LackingError, ToolError
from buildkit.oci.ref import Ref
from buildkit.tools.process import Command, run
from buildkit.tools.skopeo import skopeo_argv

_Result = TypeVar("_Result")

_WAITS = (0.5, 1.5, 4.0)  # seconds before the second try, and so on
_LOOK_SECONDS = 60  # a registry that says nothing for so long does not answer
_MISSES = ("manifest unknown", "name unknown", "StatusCode: 404")
_PASSING = re.compile(
    r"50[0-9] |StatusCode: 5|EOF|connection re(?:fused|set)|broken pipe|timeout|deadline exceeded|too ?many ?requests"
    r"|use of closed network connection|temporary failure|invalid status code from registry 5",
    re.IGNORECASE,
)
_LACKING = re.compile(r"reading blob sha256:([0-9a-f]{64}): open .*: no such file or directory")
_UNKNOWN = "manifest blob unknown"
_COPYING = re.compile(r"^Copying blob sha256:([0-9a-f]{64})", re.MULTILINE)
_SKIPPING = re.compile(r"Skipping blob sha256:([0-9a-f]{64}) \(already present\)")
_SAYING = re.compile(r'^time=\S+ level=fatal msg="(.*)"$', re.MULTILINE)
_HINTS = (
    (("unauthorized", "authentication required"), "log in: skopeo login {host}"),
    (
        ("denied", "StatusCode: 405", "unsupported"),
        "may this log-in write there? log in as another: skopeo login {host}",
    ),
    (
        ("HTTP response to HTTPS",),
        "say `insecure = true` for {host} in registries.conf(5), if it is meant to have no TLS",
    ),
    (
        ("x509", "certificate"),
        "put its authority into /etc/containers/certs.d/{host}/ca.crt, see containers-certs.d(5)",
    ),
    (("no such host",), "is the name right, and does this network resolve it?"),
    (("connection refused", "deadline exceeded", "timeout"), "is it running, and reachable from here?"),
    (("toomanyrequests", "too many requests"), "it limits requests: log in, or wait"),
    (("no space", "quota", "413"), "is its storage full, or a layer larger than it takes?"),
)


class RegistryError(BuildError):
    """A registry could not be asked, or refused."""


@dataclass(frozen=True, slots=True)
class Registries:
    """Asks and moves; ``stop`` ends waiting between tries. All raise RegistryError, ToolError or Interrupted."""

    stop: threading.Event

    def manifest(self, ref: Ref) -> bytes | None:
        """The manifest under a tag or a digest, byte for byte, or None; what a digest names is held against it."""
        argv = (*skopeo_argv(), "--command-timeout", f"{_LOOK_SECONDS}s", "inspect", "--raw", f"docker://{ref}")
        found = self._try(ref, "looking up", lambda: _find(argv))
        if found is not None and ref.digest and Digest.of(found) != ref.digest:
            raise RegistryError(f"{ref.host}: looking up {ref}: it gave another manifest")
        return found

    def config(self, ref: Ref) -> bytes:
        """The config blob of the manifest under a tag or a digest; skopeo verifies it."""
        argv = (*skopeo_argv(), "inspect", "--raw", "--config", f"docker://{ref}")
        return self._try(ref, "reading the config of", lambda: run(Command(argv=argv)).stdout)

    def fetch(self, ref: Ref, folder: Path) -> None:
        """Manifest, config and blobs into a ``dir:`` layout; skopeo verifies their digests."""
        argv = (*skopeo_argv(), "copy", "--quiet", "--preserve-digests", f"docker://{ref}", f"dir:{folder}")
        self._try(ref, "fetching", lambda: run(Command(argv=argv)))

    def push(self, folder: Path, ref: Ref) -> tuple[Digest, ...]:
        """A ``dir:`` layout to a tag; returns the blobs that the registry had not. Blobs it has may be absent.

        Raises LackingError for absent ones that it has not.
        """
        argv = (*skopeo_argv(), "--debug", "copy", "--preserve-digests", f"dir:{folder}", f"docker://{ref}")
        finished = self._try(ref, "pushing", lambda: run(Command(argv=argv)))
        copied = set(_COPYING.findall(finished.stdout.decode("utf-8", "replace")))
        skipped = set(_SKIPPING.findall(finished.stderr.decode("utf-8", "replace")))
        return tuple(sorted(Digest(digits) for digits in copied - skipped))

    def _try(self, ref: Ref, action: str, attempt: Callable[[], _Result]) -> _Result:
        for wait in (*_WAITS, None):
            try:
                return attempt()
            except ToolError as error:
                said = _explain(error.output)
                lacking = _LACKING.findall(said)
                if lacking or _UNKNOWN in said:
                    raise LackingError(f"{ref.host}: {action} {ref}: {said}", digests=tuple(lacking)) from error
                if wait is None or not _PASSING.search(said):
                    raise _error(ref, action, said) from error
            if self.stop.wait(wait):
                raise Interrupted("interrupted")
        raise AssertionError  # the last try has returned or raised


def _find(argv: tuple[str, ...]) -> bytes | None:
    finished = run(Command(argv=argv, accept=(0, 1, 2)))  # not there: 1, since skopeo 1.16 2
    if finished.code == 0:
        return finished.stdout
    said = finished.stderr.decode("utf-8", "replace")
    if any(words in said for words in _MISSES):
        return None
    raise ToolError("", output=said)


def _explain(output: str) -> str:
    """What skopeo says at last, without its marks, and without what it says for debugging."""
    said = _SAYING.findall(output)
    text: str = said[-1] if said else output.strip()
    return text.replace('\\"', '"').replace("\\n", " ").strip()[:600]


def _error(ref: Ref, action: str, said: str) -> RegistryError:
    words = said.lower()
    hints = (hint for marks, hint in _HINTS if any(mark.lower() in words for mark in marks))
    return RegistryError(f"{ref.host}: {action} {ref} failed: {said}", hint=next(hints, "").format(host=ref.host))
