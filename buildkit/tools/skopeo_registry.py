"""Registries through skopeo, which handles log-in, TLS, mirrors, proxies and credential helpers.

skopeo retries few transient failures (a 503, a connection cut in mid-blob) and has no time-outs, so this module adds
both, and turns its output into an error that names the host, the repository and the action.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from typing import BinaryIO, TypeVar

from buildkit.digest import Digest
from buildkit.errors import BlobsMissingError, DamagedError, Interrupted, RegistryError, ToolError
from buildkit.oci.reference import Ref
from buildkit.tools.process import Command, CommandResult, run
from buildkit.tools.registry_errors import (
    LIMITED,
    LOST,
    MOST_WORDS,
    SLOW,
    TIMEOUTS,
    TRANSIENT,
    RegistryTimeouts,
    registry_error,
    without_names,
    without_secrets,
)
from buildkit.tools.skopeo import drop_tag, skopeo_argv, skopeo_env_without_blob_cache

_Result = TypeVar("_Result")

_LOOKUP = "looking up"
_MISSES = ("manifest unknown", "name unknown", "StatusCode: 404")
_TOO_LARGE = "exceeded maximum allowed size"
_LACKING = re.compile(r"reading blob sha256:([0-9a-f]{64}): open .*: no such file or directory")
_DAMAGED = re.compile(r"Digest did not match, expected sha256:([0-9a-f]{64})")
_LINKED = "digest invalid"  # beside LOST: Docker's registry empties a blob's link before it writes it once more
_DROPPING = "Manifest list must be converted"
_COPYING = re.compile(r"^Copying blob sha256:([0-9a-f]{64})", re.MULTILINE)
_SKIPPING = re.compile(r"Skipping blob sha256:([0-9a-f]{64}) \(already present\)")
_ENDED = re.compile(r"reading config blob sha256:[0-9a-f]{64}: open .*: no such file or directory")
_FATAL = re.compile(r'^time=\S+ level=fatal msg="(.*)"$', re.MULTILINE)
_PARSING = re.compile(r'^Error parsing image name "[^"]*": ')  # the prefix of every failure
_CHATTER = re.compile(r"^(?:time=\S+ level=(?:debug|info|trace) .*|Copying .*|Getting .*|Storing .*)\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SkopeoRegistry:
    """Reads from and writes to registries; ``stop`` ends waiting between tries.

    All methods raise RegistryError, ToolError or Interrupted.
    """

    stop: threading.Event
    timeouts: RegistryTimeouts = TIMEOUTS

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

    def config(self, ref: Ref) -> bytes:
        """Return the config blob of the manifest of a tag or a digest; skopeo verifies it."""
        argv = (*skopeo_argv(), "inspect", "--raw", "--config", f"docker://{ref}")
        command = Command(argv=argv, stall_seconds=self.timeouts.fetch)
        return self._try(ref, "reading the config of", lambda: run(command).stdout)

    def fetch(self, ref: Ref, folder: Path, *, arch: str = "", most: int = 0) -> None:
        """Fetch manifest, config and blobs into a ``dir:`` layout; see `RegistryClient.fetch`."""
        argv = (
            *(("prlimit", f"--fsize={most}", "--") if most else ()),
            *skopeo_argv(),
            *(("--override-os", "linux", "--override-arch", arch) if arch else ()),
            "copy", "--quiet", "--preserve-digests",
            f"docker://{drop_tag(str(ref))}", f"dir:{folder}",
        )  # fmt: skip
        command = Command(argv=argv, stall_seconds=self.timeouts.fetch, writes=(folder,))
        self._try(ref, "fetching", lambda: run(command))

    def fetch_blob(self, ref: Ref, blob: tuple[Digest, int], out: BinaryIO) -> None:
        """Fetch all blobs of a manifest, and copy one of them into ``out``: skopeo fetches none alone."""
        digest, size = blob
        with TemporaryDirectory(dir="/var/tmp") as name:
            self.fetch(ref, Path(name))
            path = Path(name, digest.hex)
            if not path.is_file() or path.stat().st_size != size:
                raise registry_error(ref, "fetching", f"it has no blob {digest.short} of {size} bytes")
            out.seek(0)
            out.truncate()
            with path.open("rb") as file:
                copyfileobj(file, out)

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
                words = without_names(message, ref)
                slow += bool(SLOW.search(words))
                passes = TRANSIENT.search(words) or (folder and LIMITED.search(words))
                if wait is None or not (passes or slow) or slow > (action != _LOOKUP):
                    raise registry_error(ref, action, message) from error
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
    text: str = fatal[-1] if fatal else _CHATTER.sub("", error.output)[-MOST_WORDS:]
    text = text.replace('\\"', '"').replace("\\n", " ").strip() or error.message
    return without_secrets(_PARSING.sub("", text))


def _check_layers(folder: Path, message: str, output: str) -> None:
    """Raise BlobsMissingError or DamagedError if the layout that was pushed is why that failed."""
    if damaged := _DAMAGED.findall(output):
        raise DamagedError(message, digests=tuple(dict.fromkeys(damaged)))
    lost = LOST in output and _LINKED not in output
    if not (_LACKING.search(output) or lost):
        return
    manifest = json.loads((folder / "manifest.json").read_bytes())
    layers = {layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]}
    absent = {digits for digits in layers if not (folder / digits).exists()}
    # skopeo names only the first, but has checked all
    if lacking := absent if lost else absent - set(_SKIPPING.findall(output)):
        raise BlobsMissingError(message, digests=tuple(sorted(lacking)))
