"""Stack layers by the image specification's rules for whiteouts."""

from __future__ import annotations

import posixpath

from buildkit.audit.layer_view import LayerView, TarEntry
from buildkit.layers.tar.whiteout import OPAQUE_MARKER, WHITEOUT_PREFIX


def merge_layers(layers: tuple[LayerView, ...]) -> dict[str, TarEntry]:
    """Return the members that remain above all layers, by path."""
    final: dict[str, TarEntry] = {}
    parents: set[str] = set()  # folders that have or had content
    for layer in layers:
        removed, opaque = whiteouts(layer)
        own = {
            entry.path: entry
            for entry in layer.entries
            if not posixpath.basename(entry.path).startswith(WHITEOUT_PREFIX)
        }
        removed |= {path for path, entry in own.items() if path in parents and entry.kind != "folder"}
        if removed or opaque:
            final = {path: e for path, e in final.items() if not is_gone(path, removed, opaque)}
        final |= own
        for path in own:
            parent = path.rpartition("/")[0]
            while parent and parent not in parents:
                parents.add(parent)
                parent = parent.rpartition("/")[0]
    return final


def whiteouts(layer: LayerView) -> tuple[set[str], set[str]]:
    """Return the paths that a layer removes from lower layers, and the folders whose lower content it hides."""
    removed: set[str] = set()
    opaque: set[str] = set()
    for entry in layer.entries:
        folder, _, name = entry.path.rpartition("/")
        if name == OPAQUE_MARKER:
            opaque.add(folder)
        elif name.startswith(WHITEOUT_PREFIX):
            hidden = name.removeprefix(WHITEOUT_PREFIX)
            removed.add(f"{folder}/{hidden}" if folder else hidden)
    return removed, opaque


def is_gone(path: str, gone: set[str], opaque: set[str]) -> bool:
    """Return whether a layer with these whiteouts hides ``path`` of a lower one."""
    if path in gone or "" in opaque:
        return True
    parent = path.rpartition("/")[0]
    while parent:
        if parent in gone or parent in opaque:
            return True
        parent = parent.rpartition("/")[0]
    return False
