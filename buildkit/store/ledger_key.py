"""The key of the sums in a ledger's rows: a file of the user's, outside the cache, so that the cache alone forges none.

``$BUILDKIT_LEDGER_KEY`` names the file, else it is ``xoe-buildkit/ledger.key`` in the user's state folder (XDG). It
holds at least 32 characters; the first build that needs it writes 64 random hexadecimal digits. A machine that gets a
copy of a cache needs a copy of the key, too: without it, every row counts as absent, and everything is built again.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from contextlib import suppress
from dataclasses import field
from pathlib import Path

from buildkit.errors import BuildError
from buildkit.lazy_dataclass import dataclass
from buildkit.store.private_folder import trusted_users

VARIABLE = "BUILDKIT_LEDGER_KEY"
_SHORTEST = 32
_DIGEST = 16  # bytes
_HINT = f"name a file of yours, which is written if it is missing: export {VARIABLE}=/path"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerKey:
    """The key, and when its file was written (ns since the epoch)."""

    secret: bytes = field(repr=False)
    made_ns: int
    _begun: hashlib.blake2b = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_begun", hashlib.blake2b(digest_size=_DIGEST, key=self.secret))

    def sum_of(self, table: str, *values: object) -> str:
        """Return the keyed sum of a table's row (BLAKE2b, 32 hex digits); a REAL column's value must be a float."""
        text = "\0".join(map(str, values))
        if text.count("\0") >= len(values):  # a value has one itself: tell it from two values
            text = f"{[len(str(value)) for value in values]}\0{text}"
        total = self._begun.copy()  # half the time of beginning with the key
        total.update(f"{table}\0{text}".encode("utf-8", "surrogatepass"))
        return total.hexdigest()

    def seal(self, table: str, key: str, data: bytes) -> bytes:
        """Return a row's bytes behind their keyed sum (16 bytes); empty ones stay empty."""
        return self._seal(table, key, data) + data if data else b""

    def unseal(self, table: str, key: str, sealed: object) -> bytes | None:
        """Return the bytes of `seal`; None for others."""
        if not isinstance(sealed, bytes):
            return None
        data = sealed[_DIGEST:]
        return data if sealed[:_DIGEST] == self._seal(table, key, data) else None

    def _seal(self, table: str, key: str, data: bytes) -> bytes:
        return bytes.fromhex(self.sum_of(f"{table}, sealed", key, hashlib.sha256(data).hexdigest()))


def key_file() -> Path:
    """Return the file of the key. Raises BuildError if the user has no home folder."""
    if named := os.environ.get(VARIABLE):
        return Path(named).absolute()
    try:
        state = os.environ.get("XDG_STATE_HOME", "")  # platformdirs takes a millisecond to import
        folder = Path(state) if state.startswith("/") else Path.home() / ".local/state"
    except RuntimeError:
        raise BuildError("the ledger's key has no place: there is no home folder", hint=_HINT) from None
    return folder / "xoe-buildkit/ledger.key"


def ensure_ledger_key() -> LedgerKey:
    """Return the user's key, and write a new one if there is none.

    Raises BuildError for a file that others can read or write, that is too short, or that cannot be used.
    """
    path = key_file()
    try:
        try:
            return _load(path)
        except FileNotFoundError:
            _create(path)
            return _load(path)
    except OSError as error:
        raise BuildError(f"{path}: the ledger's key cannot be used: {error.strerror}", hint=_HINT) from error


def _load(path: Path) -> LedgerKey:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - runs in every build
        status, text = os.fstat(file.fileno()), file.read(4096).strip()
    remove = f"remove it, and layers are built again: rm {shlex.quote(str(path))}"
    if status.st_uid not in trusted_users():
        raise BuildError(f"{path}: the ledger's key belongs to user {status.st_uid}", hint=_HINT)
    if status.st_mode & 0o077:
        raise BuildError(f"{path}: others may read or write the ledger's key", hint=remove)
    if len(text) < _SHORTEST:
        raise BuildError(f"{path}: the ledger's key is shorter than {_SHORTEST} characters", hint=remove)
    made = min(status.st_mtime_ns, status.st_ctime_ns)
    return LedgerKey(secret=hashlib.sha256(text).digest(), made_ns=made)


def _create(path: Path) -> None:
    """Write a key that appears whole under its name; if another process is first, its key stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(6).hex()}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "wb") as file:  # noqa: PTH123 - a handle
            file.write(f"{os.urandom(32).hex()}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink(missing_ok=True)
