"""Secrets of ``[[run]]`` steps: passed from the sources that the caller names to one step's ``/run/secrets``.

They are in memory (a folder of tmpfs) while the step runs. Their values are in no recipe, layer, argument list or
message: they are redacted from the output of a failing step, and a layer that contains one is refused.
"""

from __future__ import annotations

import base64
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from buildkit.build.secret_sources import SecretSources
from buildkit.errors import BuildError
from buildkit.lazy_dataclass import dataclass
from buildkit.store.file_locks import lock_new_path

PLACE = "/run/secrets"
_MEMORY = Path("/dev/shm")  # noqa: S108 - the one tmpfs that every Linux has
_MAX_BYTES = 1 << 20
_MIN_REDACTED = 4  # bytes: shorter values occur in any text
_MIN_WATCHED = 8
_LONG_FORM = 8192
_REDACTED = "[secret]"


class SecretKeptError(BuildError):
    """A step wrote a secret into its layer."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """Values by name; they are never printed."""

    _values: Mapping[str, bytes]

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self._values)})"

    @contextmanager
    def laid_out(self) -> Iterator[Path]:
        """Create a folder in memory with a file for each secret, readable only by us; removed at the end."""
        with _folder() as folder:
            for name, value in self._values.items():
                handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
                with os.fdopen(handle, "wb") as file:
                    file.write(value)
            yield folder

    def hide(self, text: str) -> str:
        """Redact the values, their lines and their base64 forms, also where ``text`` starts in the middle of one."""
        for form in self._forms(_MIN_REDACTED):
            value = form.decode("utf-8", "replace")
            text = text.replace(value, _REDACTED)
            ends = (
                range(1, len(value) - _MIN_REDACTED) if len(value) < _LONG_FORM else ()
            )  # output may be cut at its start
            cut = next((end for at in ends if text.startswith(end := value[at:])), "")
            text = _REDACTED + text[len(cut) :] if cut else text
        return text

    def watch(self, step: str) -> Callable[[bytes], None]:
        """Return a function that takes a layer's bytes in order, and raises SecretKeptError if they contain a value."""
        forms = self._forms(_MIN_WATCHED)
        kept = max(map(len, forms), default=1) - 1
        before = b""

        def see(chunk: bytes) -> None:
            nonlocal before
            if not forms:
                return
            window = before + chunk
            if any(form in window for form in forms):
                raise SecretKeptError(
                    f"{step}: this step wrote one of its secrets ({', '.join(self._values)}) into its layer",
                    hint=f"read it from {PLACE}/NAME, and do not write it to any file",
                )
            before = window[-kept:] if kept else b""

        return see

    def _forms(self, least: int) -> list[bytes]:
        """Return the forms in which values appear in text, the longest first."""
        found: set[bytes] = set()
        for value in self._values.values():
            bare = value.strip()
            found |= {value, bare, base64.b64encode(value).rstrip(b"="), base64.b64encode(bare).rstrip(b"=")}
            found |= {line.strip() for line in value.splitlines()} if least == _MIN_REDACTED else set()
        return sorted((form for form in found if len(form) >= least), key=len, reverse=True)


def get_secrets(step: str, names: Sequence[str], sources: SecretSources) -> Secrets:
    """Return a step's secrets; raises BuildError for a missing one, and DefinitionError for a wrong configuration."""
    return Secrets({name: _read(step, name, sources.get(step, name), sources.env) for name in names})


def _read(step: str, name: str, source: str, env: Mapping[str, str]) -> bytes:
    kind, _, where = source.partition(":")
    if kind == "env":
        if not env.get(where):
            raise BuildError(
                f"{step}: its secret `{name}` is missing: the environment variable {where} is not set", hint="set it"
            )
        return os.fsencode(env[where])
    try:
        with Path(where).expanduser().open("rb") as file:
            value = file.read(_MAX_BYTES + 1)
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BuildError(f"{step}: its secret `{name}` cannot be read from {where}: {why}") from error
    if not value or len(value) > _MAX_BYTES:
        raise BuildError(f"{step}: its secret `{name}` in {where} is {'too large' if value else 'empty'}")
    return value


@contextmanager
def _folder() -> Iterator[Path]:
    """Create a folder in memory, and remove those that killed builds of this user left there."""
    prefix = f"buildkit-secrets-{os.geteuid()}-"
    parent = _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else None
    for left in parent.glob(f"{prefix}*") if parent else ():
        with suppress(OSError):
            _sweep(left)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with suppress(FileNotFoundError):  # another process swept it before it was locked
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if lock_new_path(handle, folder):
                    yield folder
                    return
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(handle)


def _sweep(folder: Path) -> None:
    """Remove a folder that no process has locked."""
    if folder.lstat().st_uid != os.geteuid():
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)
