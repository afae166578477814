"""What is to be locked, what came of it, and the drafts that are written when everything is decided."""

from __future__ import annotations

import os
import posixpath
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

from buildkit.declare.target import Target
from buildkit.errors import BuildError, DefinitionError, describe_disk_error
from buildkit.locks.local_package import make_describe_local
from buildkit.locks.requirements_txt import DescribeLocal


@dataclass(frozen=True, slots=True, kw_only=True)
class AptInput:
    """An apt list, and the root that its packages are for.

    ``base`` names the lists whose locks lie underneath, the lowest first; their versions are kept, and the lock
    holds only what comes on top of them.
    """

    file: str
    suite: str
    variant: str
    components: tuple[str, ...] = ("main",)
    base: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRequest:
    """Everything that a checkout locks; paths are relative to ``root``.

    Each of ``groups`` holds requirements inputs (``requirements/api.in``) that meet in one image and must agree.
    ``apt`` is ordered: a list comes after those in its ``base``. ``models`` are models files.
    """

    root: Path
    target: Target
    locker: str = "uv"
    groups: tuple[tuple[str, ...], ...] = ()
    apt: tuple[AptInput, ...] = ()
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockChange:
    """One lock that changed, or with ``check`` would: its path, and in a few words how (``numpy 2.1 → 2.2``)."""

    file: str
    details: tuple[str, ...] = ()


@dataclass(slots=True)
class LockDrafts:
    """The checkout as it will be: what was decided lies over what is on disk. Threads may share it."""

    root: Path
    _texts: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, file: str) -> str | None:
        """Text of ``file``, decided or on disk; None where there is none. Raises DefinitionError."""
        with self._lock:
            if file in self._texts:
                return self._texts[file]
        return self.read_disk(file)

    def read_disk(self, file: str) -> str | None:
        """Text of ``file`` as it was."""
        try:
            return (self.root / file).read_text("utf-8")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except UnicodeDecodeError:
            raise DefinitionError(f"{file}: not UTF-8 text") from None
        except OSError as error:
            raise DefinitionError(f"{file}: cannot be read: {error.strerror}") from error

    def get(self, file: str) -> str:
        """As ``read``; raises DefinitionError where there is none."""
        text = self.read(file)
        if text is None:
            raise DefinitionError(f"{file}: there is no such file")
        return text

    def decide(self, file: str, text: str) -> None:
        """Let ``file`` be ``text``."""
        with self._lock:
            self._texts[file] = text

    def changed(self) -> tuple[str, ...]:
        """Files that will differ, sorted."""
        with self._lock:
            texts = dict(self._texts)
        return tuple(sorted(file for file, text in texts.items() if self.read_disk(file) != text))

    @property
    def describe_local(self) -> DescribeLocal:
        """Name and version of packages of the repository."""
        return make_describe_local(self.read)

    def write(self) -> None:
        """Write what changed: every file whole beside its place, then all renames; raises BuildError."""
        ready: list[tuple[Path, Path]] = []
        try:
            for file in self.changed():
                temporary = _write_beside(self.root / file, self._texts[file])
                ready.append((temporary, self.root / file))
            for temporary, final in ready:
                temporary.replace(final)
        except OSError as error:
            hint = "free some room; no lock has changed" if describe_disk_error(error) else ""
            raise BuildError(f"cannot write the locks: {describe_disk_error(error) or error}", hint=hint) from error
        finally:
            for temporary, _ in ready:
                temporary.unlink(missing_ok=True)


def input_of(lock: str) -> str:
    """``requirements/api.in`` for ``requirements/api.txt``."""
    return posixpath.splitext(lock)[0] + ".in"


def lock_of(source: str) -> str:
    """``requirements/api.txt`` for ``requirements/api.in``."""
    return posixpath.splitext(source)[0] + ".txt"


def _write_beside(final: Path, text: str) -> Path:
    final.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{final.name}.", dir=final.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(handle)
    except BaseException:
        Path(name).unlink()
        raise
    return Path(name)
