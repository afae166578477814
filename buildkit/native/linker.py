"""Find the libraries that a file needs as the dynamic linker does: ld.so(8) of glibc, or musl's if the image has it.

The search order for each needed name: a file already loaded under it; DT_RPATH of the file and of those that loaded it
(unless it has DT_RUNPATH); LD_LIBRARY_PATH; DT_RUNPATH; the folders of ld.so.conf, if ldconfig has cached them; the
default folders. A file for another machine is skipped.
"""

from __future__ import annotations

import fnmatch
import posixpath
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import field

from buildkit.lazy_dataclass import dataclass
from buildkit.native.elf import Elf
from buildkit.native.facts import CACHE, NativeFacts
from buildkit.native.image_tree import ImageTree

TRIPLETS = {
    (3, 32): "i386-linux-gnu", (22, 64): "s390x-linux-gnu", (21, 64): "powerpc64le-linux-gnu",
    (40, 32): "arm-linux-gnueabihf", (62, 64): "x86_64-linux-gnu", (183, 64): "aarch64-linux-gnu",
    (243, 64): "riscv64-linux-gnu", (258, 64): "loongarch64-linux-gnu",
}  # fmt: skip
_MUSL_FOLDERS = ("lib", "usr/local/lib", "usr/lib")
_MUSL_OWN = tuple(f"lib{name}." for name in ("c", "pthread", "rt", "m", "dl", "util", "xnet"))
_FOLDERS = 1000
_OBJECTS = 5000  # loaded for one program
_STEPS = 5_000_000  # for a whole image; one with a thousand native files takes a hundredth of them


class LinkLimitError(Exception):
    """The files of an image take more steps to check than those of any real one: they are crafted."""


@dataclass(frozen=True, slots=True)
class MissingLibrary:
    """A name that is not found and that ``path`` needs, which is the started file or loaded for it."""

    path: str
    name: str


@dataclass(slots=True)
class LoadedFiles:
    """The files that starting one file loads: paths by name, in order, and the names that are missing."""

    names: dict[str, str] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    missing: list[MissingLibrary] = field(default_factory=list)


class Linker:
    """Finds and loads files of an image; ``env`` is the environment of its config."""

    def __init__(self, facts: NativeFacts, env: Mapping[str, str]) -> None:
        self.files = facts.files
        self.musl = any(path.rpartition("/")[2].startswith("ld-musl-") for path in (*facts.files, *facts.links))
        self._facts = facts
        self._tree = ImageTree({*facts.files, *facts.unread}, facts.links)
        self._library_path = [
            folder for folder in env.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":") if folder
        ]
        self._configured = self._read_folders()
        self._direct: dict[tuple[str, str], str | None] = {}
        self._preset: dict[tuple[int, int], tuple[str, ...]] = {}
        self._steps = 0

    def find(self, path: str) -> str | None:
        """Find the real path of a native file, whether or not it could be parsed."""
        return self._tree.find(path)

    def folder(self, path: str) -> str | None:
        """Return the real path of a folder."""
        return self._tree.folder(path)

    def find_library(self, name: str, like: Elf) -> str | None:
        """Return the file that a program like ``like`` gets for a name, if it has no search path of its own.

        Raises LinkLimitError if the image takes too many steps.
        """
        folders = (*(folder for folder in self._library_path if folder.startswith("/")), *self._preset_of(like))
        return self._try(folders, name, like)

    def load(self, path: str, before: LoadedFiles | None = None) -> LoadedFiles:
        """Load a file and everything it needs, breadth first as the linker does; ``before`` is already in memory.

        Raises LinkLimitError if the image takes too many steps.
        """
        loaded = LoadedFiles(dict(before.names), list(before.order)) if before else LoadedFiles()
        parents: dict[str, str | None] = {path: None}  # a tree, even if files need one another
        seen = set(loaded.order)
        queue = deque([path])
        while queue and len(seen) < _OBJECTS:
            at = queue.popleft()
            if at in seen:
                continue
            seen.add(at)
            loaded.order.append(at)
            elf = self.files.get(at)
            if elf is None:
                continue
            loaded.names.setdefault(elf.soname or posixpath.basename(at), at)
            self._count(len(elf.needed) + 1)
            for name in elf.needed:
                found = loaded.names.get(name) or self._search(at, name, parents)
                if found is not None:
                    parents.setdefault(found, at)
                    loaded.names.setdefault(name, found)
                    queue.append(found)
                elif not (self.musl and name.startswith(_MUSL_OWN)):
                    loaded.missing.append(MissingLibrary(at, name))
        return loaded

    def _search(self, path: str, name: str, parents: Mapping[str, str | None]) -> str | None:
        own = self._find_directly(path, name)
        if own is not None or self.files[path].runpath:
            return own
        at = parents.get(path)
        while at is not None:  # DT_RPATH of the files that loaded it; hardly any has one
            elf = self.files[at]
            if elf.rpath and not elf.runpath:
                found = self._try(self._expand(at, elf.rpath), name, self.files[path])
                if found is not None:
                    return found
            at = parents.get(at)
        return None

    def _find_directly(self, path: str, name: str) -> str | None:
        """Find a name without the search paths of the files that load ``path``."""
        key = (path, name)
        if key not in self._direct:
            elf = self.files[path]
            if "/" in name:
                self._direct[key] = self.find(name) if name.startswith("/") else None
            else:
                self._direct[key] = self._try(self._folders_of(path, elf), name, elf)
        return self._direct[key]

    def _folders_of(self, path: str, elf: Elf) -> Iterator[str]:
        if not elf.runpath:
            yield from self._expand(path, elf.rpath)
        yield from self._expand(path, self._library_path)
        yield from self._expand(path, elf.runpath)
        yield from self._preset_of(elf)

    def _preset_of(self, elf: Elf) -> tuple[str, ...]:
        kind = (elf.machine, elf.bits)
        if kind not in self._preset:
            triplet = TRIPLETS.get(kind, "")
            arch = (f"lib/{triplet}", f"usr/lib/{triplet}") if triplet else ()
            wide = ("lib64", "usr/lib64") if elf.bits == 64 else ("lib32", "usr/lib32")
            default = _MUSL_FOLDERS if self.musl else (*arch, *wide, "lib", "usr/lib")
            self._preset[kind] = (*self._configured, *default)
        return self._preset[kind]

    def _try(self, folders: Iterator[str] | tuple[str, ...], name: str, needed_by: Elf) -> str | None:
        for folder in folders:
            self._count(1)
            found = self._tree.find(f"{folder}/{name}")
            if found is None:
                continue
            elf = self.files.get(found)
            if elf is None or (elf.machine, elf.bits) == (needed_by.machine, needed_by.bits):
                return found
        return None

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _STEPS:
            raise LinkLimitError

    def _expand(self, path: str, folders: tuple[str, ...] | list[str]) -> Iterator[str]:
        """Replace the linker's variables; skip relative folders, which depend on the working directory."""
        origin = posixpath.dirname(path)
        elf = self.files[path]
        for folder in folders:
            text = folder.replace("${ORIGIN}", f"/{origin}").replace("$ORIGIN", f"/{origin}")
            if "$" not in text:
                if text.startswith("/"):
                    yield text
                continue
            for lib in (f"lib/{TRIPLETS.get((elf.machine, elf.bits), '')}", "lib64", "lib"):
                yield text.replace("${LIB}", lib).replace("$LIB", lib)

    def _read_folders(self) -> tuple[str, ...]:
        texts = self._facts.texts
        if self.musl:
            paths = (text for path, text in texts.items() if path.startswith("etc/ld-musl-"))
            return tuple(part for text in paths for part in text.replace("\n", ":").split(":") if part)[:_FOLDERS]
        if CACHE not in texts:  # ldconfig never ran: the linker knows only its default folders
            return ()
        return tuple(dict.fromkeys(self._read_conf("etc/ld.so.conf", set())))[:_FOLDERS]

    def _read_conf(self, path: str, read: set[str]) -> Iterator[str]:
        for line in self._facts.texts.get(path, "").splitlines() if path not in read else ():
            read.add(path)
            words = line.partition("#")[0].split()
            if words[:1] == ["include"]:
                for pattern in words[1:]:
                    whole = posixpath.join("etc", pattern).lstrip("/")
                    for name in fnmatch.filter(sorted(self._facts.texts), whole):
                        yield from self._read_conf(name, read)
            else:
                yield from (word.rstrip("/") for word in words if word.startswith("/"))
