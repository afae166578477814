"""The application's code by its content: an edit is never answered with bytecode of an older text.

Python's own cache compares seconds and sizes, so that two edits within a second may look alike (PEP 552). Here a text's
hash is its name, which also makes the code of an earlier text available after the file has changed.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import marshal
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import CodeType, ModuleType

from .trees import AppTrees


class CodeStore:
    """Compiled code below a folder, by hash; ``pins`` name the code of an earlier text for paths."""

    def __init__(self, folder: Path, pins: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._pins = dict(pins or {})
        self.used: dict[str, str] = {}
        self.texts: dict[str, str] = {}

    def get_code(self, path: str) -> CodeType:
        """Return the code of a file: that of its pin, or of its present text. Raises OSError and SyntaxError."""
        pinned = self._pins.get(path)
        if pinned is not None:
            code = self._read(pinned)
            if code is not None:
                self.used[path] = pinned
                return code
        source = Path(path).read_bytes()
        self.texts[path] = hash_text(source)
        name = self._name(path, source)
        code = self._read(name)
        if code is None:
            code = compile(source, path, "exec", dont_inherit=True)
            self._write(name, code)
        self.used[path] = name
        return code

    def _name(self, path: str, source: bytes) -> str:
        about = f"{sys.implementation.cache_tag} {sys.flags.optimize} {importlib.util.MAGIC_NUMBER.hex()} {path}\0"
        return hashlib.sha256(about.encode(errors="surrogateescape") + source).hexdigest()

    def _read(self, name: str) -> CodeType | None:
        try:
            code = marshal.loads((self._folder / name).read_bytes())  # noqa: S302 - written below, by the same user
        except (OSError, ValueError, EOFError, TypeError):
            return None
        return code if isinstance(code, CodeType) else None

    def _write(self, name: str, code: CodeType) -> None:
        beside = self._folder / f"{name}.{os.getpid()}.tmp"
        try:
            beside.write_bytes(marshal.dumps(code))
            beside.replace(self._folder / name)
        except OSError:
            beside.unlink(missing_ok=True)  # a full disk costs time, not correctness


def hash_text(source: bytes) -> str:
    """Return what two equal texts have in common."""
    return hashlib.sha256(source).hexdigest()


class _StoreLoader(importlib.machinery.SourceFileLoader):
    """Takes code from a store; what else a loader does is the standard one's."""

    store: CodeStore

    def get_code(self, fullname: str) -> CodeType:
        return self.store.get_code(self.get_filename(fullname))


def install_loader(trees: AppTrees, store: CodeStore) -> None:
    """Import the application's modules through a store from now on; everything else as before."""
    loader = type("StoreLoader", (_StoreLoader,), {"store": store})
    suffixes = importlib.machinery.SOURCE_SUFFIXES
    extensions = importlib.machinery.EXTENSION_SUFFIXES
    hook = importlib.machinery.FileFinder.path_hook(
        (importlib.machinery.ExtensionFileLoader, extensions), (loader, suffixes)
    )

    def find(path: str) -> importlib.machinery.FileFinder:
        if not trees.holds(os.path.abspath(path or ".")):  # noqa: PTH100 - no link is resolved
            raise ImportError(path)
        return hook(path)  # type: ignore[return-value]

    sys.path_hooks[:] = [one for one in sys.path_hooks if not getattr(one, "of_reloader", False)]
    find.of_reloader = True  # type: ignore[attr-defined]
    sys.path_hooks.insert(0, find)
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()


def module_file(module: ModuleType | None) -> str:
    """Return the source file of a module; empty for what has none."""
    file = getattr(module, "__file__", None)
    return os.path.abspath(file) if isinstance(file, str) else ""  # noqa: PTH100 - no link is resolved
