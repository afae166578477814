"""Which paths a definition may name: targets in an image, and sources in the repository. Pure."""

from __future__ import annotations

import posixpath

from buildkit.declare.schema import ValueLocation

_RESERVED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin", "proc", "sys", "dev", "run", "tmp", "var/tmp")


def is_outside(path: str) -> bool:
    """Return whether a relative path leads out of the folder that it is relative to, by its text."""
    return posixpath.normpath(path).split("/")[0] == ".."


def check_target(target: str, place: ValueLocation) -> None:
    """Report a target that a layer must not own: folders that Debian links or the runtime mounts."""
    if ".." in target.split("/"):
        place.report(f"`{target}` must not hold `..`")
    if reserved := find_reserved(target):
        place.report(f"`{target}` is below /{reserved}", "use a folder such as /app, /opt or /usr/lib")


def find_reserved(target: str) -> str:
    """Return the folder, without a slash before it, that makes a target one that no layer may own; else nothing."""
    clean = posixpath.normpath(target).strip("/")
    return next((reserved for reserved in _RESERVED if clean == reserved or clean.startswith(f"{reserved}/")), "")
