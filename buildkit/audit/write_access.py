"""Find write access of the image's user: to a path, or to a folder above it."""

from __future__ import annotations

from buildkit.audit.view import STICKY, ImageView


def find_write_access(view: ImageView, path: str) -> str:
    """Return how the image's user may put something at the absolute path ``path``; empty if it may not.

    It may write to the folder, create it if it is missing, or write to a folder above and so replace it. uid 0 may
    always; another check reports that.
    """
    identity = view.identity
    place = view.resolve(path)
    if not identity.uid or place is None:
        return ""
    for volume in view.config.volumes:
        inside = view.resolve(volume)
        if inside is not None and (place == inside or place.startswith(f"{inside}/")):
            return f"/{inside} is a volume"
    entry = view.files.get(place)
    if entry is not None and identity.may_write(entry):
        return f"/{place} has mode {entry.mode:04o} and belongs to uid {entry.uid}"
    child_exists = place in view.folders or entry is not None
    while place:
        place = place.rpartition("/")[0]
        above = view.files.get(place)
        if above is not None and identity.may_write(above):
            sticky = above.mode & STICKY and above.uid != identity.uid
            if not (sticky and child_exists):
                return f"/{place} above it has mode {above.mode:04o} and belongs to uid {above.uid}"
        child_exists = place in view.folders
    return ""
