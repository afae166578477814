"""Whether local storage can have an image, or hide one of the image store, as far as files tell without asking a tool.

The tools look into the user's own storage first, then into additional image stores in their order. A record of the
own storage hides an image of a store by a name, and by its id, with or without a name. containers-storage keeps these
records in one file, and writes names and ids into it as they are (containers/storage: images.go, utils.go).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from buildkit.declare.toml import find_table
from buildkit.tools.storage_settings import ROOTS, find_settings_file, listed_stores, read_settings

_VARIABLES = ("STORAGE_OPTS", "STORAGE_DRIVER")  # replace what storage.conf says
_ELSEWHERE = ("imagestore", "rootless_storage_path")  # keys that move images


def may_hide(words: Iterable[str], store: Path) -> bool:
    """Return whether the tools may find something else under these names and ids than an image store has.

    Whatever is unclear is answered by True: then only a tool can tell. Raises BuildError for a storage.conf with which
    the tools fail.
    """
    settings = read_settings(find_settings_file())
    root = _find_root(settings)
    return listed_stores(settings) != (str(store),) or root is None or _may_record(words, (root,))


def may_have(name: str) -> bool:
    """Return whether the tools may find an image under a name, which is a whole one with a tag.

    Whatever is unclear is answered by True, and errors are those of `may_hide`.
    """
    settings = read_settings(find_settings_file())
    root = _find_root(settings)
    return root is None or _may_record((name,), (root, *listed_stores(settings)))


def _find_root(settings: dict[str, Any]) -> str | None:
    """Return the folder that holds the records of the user's own storage, or None if that is unclear."""
    storage = find_table(settings, "storage")
    root = storage.get("graphroot", _default_root())
    if (
        any(map(os.environ.get, _VARIABLES))
        or storage.get("driver") != "overlay"
        or storage.keys() & {*_ELSEWHERE}
        or not isinstance(root, str)
        or "$" in root
    ):
        return None
    return root


def _may_record(words: Iterable[str], roots: Iterable[str]) -> bool:
    files = ("images", "volatile-images")
    try:
        records = b"".join(_read(f"{root}/overlay-images/{name}.json") for root in roots for name in files)
    except OSError:
        return True
    return any(word.encode() in records for word in words)


def _default_root() -> str:
    if os.geteuid() == 0:
        return ROOTS["graphroot"]
    return f"{os.environ.get('XDG_DATA_HOME') or Path.home() / '.local/share'}/containers/storage"


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return b""
