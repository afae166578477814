"""Secrets of ``[[run]]`` steps: from where the settings say to one step's ``/run/secrets``, and nowhere else.

They lie in memory (a folder of tmpfs) while the step runs. Their values are in no recipe, no layer, no argument list
and no message: what a failing step printed is told without them, and a layer that holds one is refused.
"""

from __future__ import annotations

import base64
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import BuildError
from buildkit.store.blobs import claim

PLACE = "/run/secrets"
_MEMORY = Path("/dev/shm")  # noqa: S108 - the one tmpfs that every Linux has
_MOST_BYTES = 1 << 20
_LEAST_HIDDEN = 4  # bytes: what is shorter is in any text
_LEAST_WATCHED = 8
_LONG = 8192
_INSTEAD = "[secret]"


class SecretKeptError(BuildError):
    """A step has put a secret into its layer."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """Values by name; they are never printed."""

    _values: Mapping[str, bytes]

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self._values)})"

    @contextmanager
    def laid_out(self) -> Iterator[Path]:
        """A folder with a file for each, which only we can read; in memory, and gone at the end."""
        with _folder() as folder:
            for name, value in self._values.items():
                handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
                with os.fdopen(handle, "wb") as file:
                    file.write(value)
            yield folder

    def hide(self, text: str) -> str:
        """``text`` without the values, their lines and base64 of them; nor does it begin with the end of one."""
        for form in self._forms(_LEAST_HIDDEN):
            word = form.decode("utf-8", "replace")
            text = text.replace(word, _INSTEAD)
            ends = range(1, len(word) - _LEAST_HIDDEN) if len(word) < _LONG else ()  # output is cut at its beginning
            cut = next((end for at in ends if text.startswith(end := word[at:])), "")
            text = _INSTEAD + text[len(cut) :] if cut else text
        return text

    def watch(self, step: str) -> Callable[[bytes], None]:
        """What is given the bytes of a step's layer, in order; it raises SecretKeptError if a value is among them."""
        forms = self._forms(_LEAST_WATCHED)
        kept = max(map(len, forms), default=1) - 1
        before = b""

        def see(chunk: bytes) -> None:
            nonlocal before
            if not forms:
                return
            window = before + chunk
            if any(form in window for form in forms):
                raise SecretKeptError(
                    f"{step}: this step has put one of its secrets ({', '.join(self._values)}) into its layer",
                    hint=f"use {PLACE}/NAME where it is, and write it nowhere",
                )
            before = window[-kept:] if kept else b""

        return see

    def _forms(self, least: int) -> list[bytes]:
        """What values look like in texts, the longest first."""
        found: set[bytes] = set()
        for value in self._values.values():
            bare = value.strip()
            found |= {value, bare, base64.b64encode(value).rstrip(b"="), base64.b64encode(bare).rstrip(b"=")}
            found |= {line.strip() for line in value.splitlines()} if least == _LEAST_HIDDEN else set()
        return sorted((form for form in found if len(form) >= least), key=len, reverse=True)


def find_secrets(step: str, names: Sequence[str], places: Mapping[str, str], env: Mapping[str, str]) -> Secrets:
    """The values of a step's secrets; ``places`` says where some are (``env:NAME``, ``file:PATH``).

    Raises BuildError for one that is not there.
    """
    return Secrets({name: _read(step, name, places.get(name, f"env:{_variable(name)}"), env) for name in names})


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")


def _read(step: str, name: str, place: str, env: Mapping[str, str]) -> bytes:
    kind, _, where = place.partition(":")
    if kind == "env":
        if not env.get(where):
            raise BuildError(
                f"{step}: its secret `{name}` is not there: the environment variable {where} is not set",
                hint=f'set it, or say where it is: secrets = {{ {name} = "file:PATH" }} in [tool.buildkit]',
            )
        return os.fsencode(env[where])
    try:
        with Path(where).expanduser().open("rb") as file:
            value = file.read(_MOST_BYTES + 1)
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BuildError(f"{step}: its secret `{name}` cannot be read from {where}: {why}") from error
    if not value or len(value) > _MOST_BYTES:
        raise BuildError(f"{step}: its secret `{name}` in {where} is {'too large' if value else 'empty'}")
    return value


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder in memory; what killed builds of this user left there is removed."""
    prefix = f"buildkit-secrets-{os.geteuid()}-"
    parent = _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else None
    for left in parent.glob(f"{prefix}*") if parent else ():
        with suppress(OSError):
            _sweep(left)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with suppress(FileNotFoundError):  # a sweeper was quicker
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if claim(handle, folder):
                    yield folder
                    return
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(handle)


def _sweep(folder: Path) -> None:
    """Remove a folder that nobody holds."""
    if folder.lstat().st_uid != os.geteuid():
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)
