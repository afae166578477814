"""Registries through skopeo, which handles log-in, TLS, mirrors, proxies and credential helpers.

skopeo retries few transient failures (a 503, a connection cut in mid-blob) and has no time-outs, so this module adds
both, and turns its output into an error that names the host, the repository and the action.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from buildkit.digest import Digest
from buildkit.errors import BlobsMissingError, DamagedError, Interrupted, RegistryError, ToolError
from buildkit.oci.reference import Ref
from buildkit.tools.process import Command, CommandResult, run, stop_all
from buildkit.tools.skopeo import skopeo_argv, skopeo_env_without_blob_cache
from buildkit.worker_pool import WorkerPool

_Result = TypeVar("_Result")

_LOOKUP = "looking up"
_ASKED_AT_ONCE = 8
_MISSES = ("manifest unknown", "name unknown", "StatusCode: 404")
_TOO_LARGE = "exceeded maximum allowed size"
_TRANSIENT = re.compile(
    r"\b50[0-9] |StatusCode: 5|invalid status code from registry 5|\bEOF\b|connection re(?:fused|set)|broken pipe"
    r"|use of closed network connection|[Tt]emporary failure|blob upload (?:unknown|invalid)|digest invalid"
)
_SLOW = re.compile(r"deadline exceeded|timeout|nothing came or went")
_PLAIN = "HTTP response to HTTPS|not look like a TLS handshake"
_UNREACHABLE = re.compile(rf"no such host|dial tcp|x509|{_PLAIN}")
_LIMITED = re.compile(r"too ?many ?requests", re.IGNORECASE)
_DENIED = re.compile(r"unauthorized|authentication required|denied|\b40[13]\b|invalid username/password")
_LACKING = re.compile(r"reading blob sha256:([0-9a-f]{64}): open .*: no such file or directory")
_DAMAGED = re.compile(r"Digest did not match, expected sha256:([0-9a-f]{64})")
_UNKNOWN = "manifest blob unknown"
_DROPPING = "Manifest list must be converted"
_COPYING = re.compile(r"^Copying blob sha256:([0-9a-f]{64})", re.MULTILINE)
_SKIPPING = re.compile(r"Skipping blob sha256:([0-9a-f]{64}) \(already present\)")
_ENDED = re.compile(r"reading config blob sha256:[0-9a-f]{64}: open .*: no such file or directory")
_FATAL = re.compile(r'^time=\S+ level=fatal msg="(.*)"$', re.MULTILINE)
_PARSING = re.compile(r'^Error parsing image name "[^"]*": ')  # the prefix of every failure
_CHATTER = re.compile(r"^(?:time=\S+ level=(?:debug|info|trace) .*|Copying .*|Getting .*|Storing .*)\n?", re.MULTILINE)
_SECRETS = re.compile(
    r"(?<=://)[^/@\s\"]+@|(?<=[\w/=-])\?[^\s\"]+"
)  # of a URL: the user, and a query that may be signed
_MOST_WORDS = 600
_HINTS = (
    (r"unauthorized|authentication required|invalid username", "log in: skopeo login {host}"),
    (r"denied|\b40[35]\b|unsupported", "may this log-in do that there? log in as another: skopeo login {host}"),
    (_PLAIN, "if it has no TLS, say `insecure = true` for {host} in registries.conf(5)"),
    (r"x509|certificate", "put its authority into /etc/containers/certs.d/{host}/ca.crt, see containers-certs.d(5)"),
    (r"invalid reference format", "does this skopeo read addresses of IPv6? give {host} a name"),
    (r"no such host", "is the name right, and does this network resolve it?"),
    (_LIMITED.pattern, "it limits requests: log in, or wait"),
    (r"file too large", "somebody with write access has replaced it"),
    (r"connection refused|deadline exceeded|timeout|came or went", "is it running, and reachable from here?"),
    (r"no space|quota|\b413\b", "is its storage full, or a layer larger than it takes?"),
    (_UNKNOWN, "it has lost blobs that it claims to have: ask its operator, or push to another repository"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryTimeouts:
    """Time limits in seconds: of a look-up, of a stall while blobs are moved, and ``waits`` before each retry.

    The limits include skopeo's own waiting for a registry that limits requests. A registry may process a large blob
    for a long time after receiving it.
    """

    look: float = 60.0
    fetch: float = 90.0
    push: float = 600.0
    waits: tuple[float, ...] = (0.5, 1.5, 4.0)


@dataclass(frozen=True, slots=True)
class RegistryClient:
    """Reads from and writes to registries; ``stop`` ends waiting between tries.

    All methods raise RegistryError, ToolError or Interrupted.
    """

    stop: threading.Event
    timeouts: RegistryTimeouts = RegistryTimeouts()

    def manifest(self, ref: Ref) -> bytes | None:
        """Return the manifest of a tag or a digest, byte for byte, or None; a digest is verified.

        A manifest that is too large is not read, and the result is empty.
        """
        limit = f"{self.timeouts.look:.0f}s"
        argv = (*skopeo_argv(), "--command-timeout", limit, "inspect", "--raw", f"docker://{ref}")
        manifest = self._try(ref, _LOOKUP, lambda: _find(argv))
        if manifest and ref.digest and Digest.of(manifest) != ref.digest:
            raise RegistryError(f"{ref.host}: looking up {ref} failed: the registry returned another manifest")
        return manifest

    def manifests(self, refs: Iterable[Ref]) -> dict[Ref, bytes | None]:
        """Return the manifests of many references, concurrently; the first failure cancels the rest."""
        with WorkerPool(_ASKED_AT_ONCE) as pool:
            futures = {ref: pool.submit(self.manifest, ref) for ref in refs}
            try:
                return {ref: future.result() for ref, future in futures.items()}
            except BaseException as error:
                pool.shutdown(wait=False, cancel_futures=True)
                if isinstance(error, KeyboardInterrupt):  # the processes that the threads have started
                    self.stop.set()
                    stop_all()
                raise

    def config(self, ref: Ref) -> bytes:
        """Return the config blob of the manifest of a tag or a digest; skopeo verifies it."""
        argv = (*skopeo_argv(), "inspect", "--raw", "--config", f"docker://{ref}")
        command = Command(argv=argv, stall_seconds=self.timeouts.fetch)
        return self._try(ref, "reading the config of", lambda: run(command).stdout)

    def fetch(self, ref: Ref, folder: Path, *, most: int = 0) -> None:
        """Fetch manifest, config and blobs into a ``dir:`` layout; skopeo verifies their digests.

        ``most`` limits the bytes of each file, because a registry may send more than the manifest declares.
        """
        limit = ("prlimit", f"--fsize={most}", "--") if most else ()
        argv = (*limit, *skopeo_argv(), "copy", "--quiet", "--preserve-digests", f"docker://{ref}", f"dir:{folder}")
        command = Command(argv=argv, stall_seconds=self.timeouts.fetch)
        self._try(ref, "fetching", lambda: run(command))

    def push(self, folder: Path, ref: Ref, *, notes: bool = True) -> tuple[Digest, ...]:
        """Push a ``dir:`` layout to a tag; return the blobs that the registry did not have. Others may be absent.

        Without ``notes`` skopeo keeps no blob info cache, which for small blobs costs more than it saves.

        Raises BlobsMissingError for blobs that neither has, DamagedError for blobs that do not match their digest.
        """
        command = self._pushing(folder, ref, notes=notes)
        return self._try(ref, "pushing", lambda: _find_sent(run(command)), folder)

    def send(self, folder: Path, ref: Ref) -> tuple[Digest, ...]:
        """Push only the layers of a ``dir:`` layout without a config; returns and raises as ``push`` does.

        The missing config ends skopeo after it has copied all layers and before it writes a tag.
        """
        command = self._pushing(folder, ref)

        def attempt() -> tuple[Digest, ...]:
            finished = run(replace(command, accept=(0, 1)))
            if not _ENDED.search(output := finished.stderr.decode("utf-8", "replace")):
                raise ToolError("skopeo failed", output=output)
            return _find_sent(finished)

        return self._try(ref, "pushing", attempt, folder)

    def _pushing(self, folder: Path, ref: Ref, *, notes: bool = True) -> Command:
        argv = (*skopeo_argv(), "--debug", "copy", "--preserve-digests", f"dir:{folder}", f"docker://{ref}")
        return Command(
            argv=argv, env=None if notes else skopeo_env_without_blob_cache(), stall_seconds=self.timeouts.push
        )

    def push_index(self, folder: Path, ref: Ref) -> bool:
        """Push only the index of a ``dir:`` layout to a tag; the registry must have the manifests that it lists.

        Returns False, without pushing, if this skopeo would drop fields that it does not know (1.9 drops
        `artifactType` in entries of an index; 1.18 keeps everything).
        """
        argv = (
            *skopeo_argv(), "copy", "--quiet", "--preserve-digests",
            "--multi-arch", "index-only",
            f"dir:{folder}", f"docker://{ref}",
        )  # fmt: skip
        command = Command(argv=argv, stall_seconds=self.timeouts.push)
        try:
            self._try(ref, "pushing", lambda: run(command))
        except RegistryError as error:
            if _DROPPING in error.message:
                return False
            raise
        return True

    def _try(self, ref: Ref, action: str, attempt: Callable[[], _Result], folder: Path | None = None) -> _Result:
        """Attempt an action with retries; ``folder`` is the layout that is pushed, if any."""
        slow = 0
        for wait in (*self.timeouts.waits, None):
            try:
                return attempt()
            except ToolError as error:
                message = _explain(error)
                if folder is not None:
                    _check_layers(folder, f"{ref.host}: {action} {ref} failed: {message}", error.output)
                words = _anonymous(message, ref)
                slow += bool(_SLOW.search(words))
                passes = _TRANSIENT.search(words) or (folder and _LIMITED.search(words))
                if wait is None or not (passes or slow) or slow > (action != _LOOKUP):
                    raise _error(ref, action, message) from error
            if self.stop.wait(wait):
                raise Interrupted("interrupted")
        raise AssertionError  # the last try has returned or raised


def _find_sent(finished: CommandResult) -> tuple[Digest, ...]:
    """Return the blobs that a push reports as copied."""
    copied = set(_COPYING.findall(finished.stdout.decode("utf-8", "replace")))
    skipped = set(_SKIPPING.findall(finished.stderr.decode("utf-8", "replace")))
    return tuple(sorted(Digest(digits) for digits in copied - skipped))


def _find(argv: tuple[str, ...]) -> bytes | None:
    finished = run(Command(argv=argv, accept=(0, 1, 2)))  # not there: 1, since skopeo 1.16 2
    if finished.code == 0:
        return finished.stdout
    message = finished.stderr.decode("utf-8", "replace")
    if any(words in message for words in _MISSES):
        return None
    if _TOO_LARGE in message:
        return b""
    raise ToolError("skopeo failed", output=message)


def _explain(error: ToolError) -> str:
    """Return skopeo's last message, without log markup, debug output and secrets."""
    fatal = _FATAL.findall(error.output)
    text: str = fatal[-1] if fatal else _CHATTER.sub("", error.output)[-_MOST_WORDS:]
    text = text.replace('\\"', '"').replace("\\n", " ").strip() or error.message
    return _SECRETS.sub("", _PARSING.sub("", text))[:_MOST_WORDS]


def _anonymous(message: str, ref: Ref) -> str:
    """Return the message without names, which must not be taken for causes."""
    for name in (str(ref), ref.repository, ref.path, ref.host, f"manifest {ref.tag} "):
        message = message.replace(name, "")
    return message


def _check_layers(folder: Path, message: str, output: str) -> None:
    """Raise BlobsMissingError or DamagedError if the layout that was pushed is why that failed."""
    if damaged := _DAMAGED.findall(output):
        raise DamagedError(message, digests=tuple(dict.fromkeys(damaged)))
    if not (_LACKING.search(output) or _UNKNOWN in output):
        return
    manifest = json.loads((folder / "manifest.json").read_bytes())
    layers = {layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]}
    absent = {digits for digits in layers if not (folder / digits).exists()}
    # skopeo names only the first, but has checked all
    if lacking := absent if _UNKNOWN in output else absent - set(_SKIPPING.findall(output)):
        raise BlobsMissingError(message, digests=tuple(sorted(lacking)))


def _error(ref: Ref, action: str, message: str) -> RegistryError:
    words = _anonymous(message, ref)
    hint = next((hint for marks, hint in _HINTS if re.search(marks, words, re.IGNORECASE)), "")
    return RegistryError(
        f"{ref.host}: {action} {ref} failed: {message}",
        hint=hint.format(host=ref.host),
        denied=bool(_DENIED.search(words)),
        down=any(marks.search(words) for marks in (_TRANSIENT, _SLOW, _LIMITED, _UNREACHABLE)),
    )
