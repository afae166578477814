"""The request to lock a checkout, the resulting changes, and the drafts that are written at the end."""

from __future__ import annotations

import os
import posixpath
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from buildkit.declare.lock_choice import LockChoice
from buildkit.declare.target import Target
from buildkit.errors import BuildError, DefinitionError, describe_disk_error
from buildkit.locks.apt_lists import AptList
from buildkit.locks.local_package import make_describe_local
from buildkit.locks.project_input import render_project_input
from buildkit.locks.requirements_txt import DescribeLocal
from buildkit.locks.root_release import Roots, find_root_release
from buildkit.locks.system_packages import RootImages, find_system_packages
from buildkit.tools.resolver import Describe


@dataclass(frozen=True, slots=True, kw_only=True)
class RootImage:
    """An image of a registry that is a root, by its name in ``file``: a stage (in ``key``) or a Containerfile."""

    name: str
    file: str
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageWheels:
    """The wheels of a stage's image: the stage files by the locks or choices they name, and the preferred projects."""

    stage: str
    files: Mapping[str, str]
    prefer: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRequest:
    """Everything that a checkout locks; paths are relative to ``root``.

    Each of ``groups`` contains requirements inputs (``requirements/api.in``) that one image uses and that must agree;
    ``project_inputs`` are those that stand for a pyproject.toml. ``choices`` are taken from locks of other tools.
    ``root_images`` are locked by their names. ``apt`` is ordered: a list comes after those in its ``base``. ``models``
    are models files. ``roots`` are, by input or id of a choice, the roots on which its wheels are installed: their
    Python counts, and ``lock_images`` the images at their bottom, whose packages count. ``excluded`` are names and
    versions that no lock may pin. ``images`` are those whose wheels must not meet.
    Build backends run by ``describe``, in a container, and with ``host_builds`` on this host if that is impossible.
    ``others`` are targets of other processors, with apt and wheels locks of their own; all else is locked once.
    """

    root: Path
    target: Target
    others: tuple[Target, ...] = ()
    locker: str = "uv"
    groups: tuple[tuple[str, ...], ...] = ()
    root_images: tuple[RootImage, ...] = ()
    apt: tuple[AptList, ...] = ()
    models: tuple[str, ...] = ()
    choices: tuple[LockChoice, ...] = ()
    project_inputs: Mapping[str, LockChoice] = field(default_factory=dict)
    roots: Mapping[str, Roots] = field(default_factory=dict)
    lock_images: Mapping[str, RootImages] = field(default_factory=dict)
    excluded: tuple[tuple[str, str], ...] = ()
    images: tuple[ImageWheels, ...] = ()
    describe: Describe | None = None
    host_builds: bool = False

    def of_each_arch(self) -> tuple[LockRequest, ...]:
        """Return the request once for each processor, the first one first."""
        return tuple(replace(self, target=target, others=()) for target in (self.target, *self.others))


@dataclass(frozen=True, slots=True, kw_only=True)
class LockChange:
    """A lock that changed, or is to change: its path and short details (``numpy 2.1 → 2.2``)."""

    file: str
    details: tuple[str, ...] = ()


@dataclass(slots=True)
class LockDrafts:
    """The checkout as it will be: decided texts take precedence over files on disk. Safe to share among threads."""

    root: Path
    project_inputs: Mapping[str, LockChoice] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, file: str) -> str | None:
        """Return the text of ``file``, decided or on disk, or None if it does not exist. Raises DefinitionError."""
        with self._lock:
            if file in self._texts:
                return self._texts[file]
        choice = self.project_inputs.get(file)
        if choice and (text := self.read_disk(choice.file)) is not None:
            return render_project_input(choice, text)
        return self.read_disk(file)

    def read_disk(self, file: str) -> str | None:
        """Return the text of ``file`` on disk, or None if it does not exist. Raises DefinitionError."""
        try:
            return (self.root / file).read_text("utf-8-sig")  # editors on Windows mark the encoding
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except UnicodeDecodeError:
            hint = "save it as UTF-8: `>` of Windows PowerShell writes UTF-16"
            raise DefinitionError(f"{file}: not UTF-8 text", hint=hint) from None
        except OSError as error:
            raise DefinitionError(f"{file}: cannot be read: {error.strerror}") from error

    def get(self, file: str) -> str:
        """Return the text of ``file``. Raises DefinitionError if it does not exist."""
        text = self.read(file)
        if text is None:
            raise DefinitionError(f"{file}: there is no such file")
        return text

    def decide(self, file: str, text: str) -> None:
        """Decide that ``file`` will contain ``text``."""
        with self._lock:
            self._texts[file] = text

    def changed(self) -> tuple[str, ...]:
        """Return the files that will differ, sorted."""
        with self._lock:
            texts = dict(self._texts)
        return tuple(sorted(file for file, text in texts.items() if self.read_disk(file) != text))

    @property
    def describe_local(self) -> DescribeLocal:
        """The function that describes packages of the repository; see ``make_describe_local``."""
        return make_describe_local(self.read)

    def write(self) -> None:
        """Write the changed files: each to a temporary file in its folder, then rename all. Raises BuildError."""
        ready: list[tuple[Path, Path]] = []
        try:
            for file in self.changed():
                temporary = _write_temporary(self.root / file, self._texts[file])
                ready.append((temporary, self.root / file))
            for temporary, final in ready:
                temporary.replace(final)
        except OSError as error:
            hint = "free some room; no lock has changed" if describe_disk_error(error) else ""
            raise BuildError(f"cannot write the locks: {describe_disk_error(error) or error}", hint=hint) from error
        finally:
            for temporary, _ in ready:
                temporary.unlink(missing_ok=True)


def find_release_for(request: LockRequest, drafts: LockDrafts, files: Sequence[str]) -> str:
    """Return the release of Python on all roots of the inputs ``files``; the empty string if it is not known."""
    roots = tuple(dict.fromkeys(root for file in files for root in request.roots.get(file, ())))
    return find_root_release(roots, drafts.read, request.target)


def find_installed(request: LockRequest, drafts: LockDrafts, files: Sequence[str]) -> dict[str, str]:
    """Return the versions of the packages that the roots of the inputs ``files`` bring, and wheels see, by name."""
    images = tuple(dict.fromkeys(image for file in files for image in request.lock_images.get(file, ())))
    return find_system_packages(", ".join(files), images, drafts.read, request.target)


def input_of(lock: str) -> str:
    """Return ``requirements/api.in`` for ``requirements/api.txt``."""
    return posixpath.splitext(lock)[0] + ".in"


def lock_of(source: str) -> str:
    """Return ``requirements/api.txt`` for ``requirements/api.in``."""
    return posixpath.splitext(source)[0] + ".txt"


def _write_temporary(final: Path, text: str) -> Path:
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
