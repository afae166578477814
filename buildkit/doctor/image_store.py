"""The image store of this user: facts about it, and the commands that let podman see it, or not."""

from __future__ import annotations

import os

from buildkit.declare.toml import parse_toml
from buildkit.doctor.facts import ImageStoreFacts
from buildkit.errors import BuildError
from buildkit.imagestore.image_store import ImageStore, is_store, read_version
from buildkit.imagestore.layer_records import read_layer_ids
from buildkit.imagestore.store_folder import store_folder
from buildkit.imagestore.store_use import find_borrowers
from buildkit.tools.file_system import describe_file_system, find_file_system
from buildkit.tools.storage_settings import check_stores, find_settings_file, is_listed
from buildkit.tools.store_setting import plan_disabling, plan_enabling, try_setting, write_setting


def probe_image_store() -> ImageStoreFacts:
    """Return the facts; changes nothing."""
    try:
        folder = store_folder()
        settings = find_settings_file()
        listed = is_listed(folder)
        if is_store(folder):
            read_version(folder)
    except BuildError as error:
        return ImageStoreFacts(problem=error.message, mend=error.hint)
    return ImageStoreFacts(
        folder=str(folder),
        settings_file=str(settings or ""),
        is_listed=listed,
        exists=folder.is_dir(),
        is_readable=os.access(folder, os.R_OK | os.X_OK),
        file_system=find_file_system(folder),
        problem="",
    )


def enable_image_store() -> tuple[str, ...]:
    """Let the user's tools see the image store, which is made if it is missing; return lines that say what was done.

    Raises BuildError if they cannot use it; then every file is as it was.
    """
    folder = store_folder()
    if why := describe_file_system(find_file_system(folder)):
        raise BuildError(
            f"{folder}: this cannot be an image store: {why}",
            hint="choose a folder on a local disk: BUILDKIT_STORE=/path",
        )
    change = plan_enabling(folder)
    check_stores(change.file, parse_toml(change.before or "", ""), folder)
    ImageStore.open(folder)
    if not change:
        return (f"podman sees the image store: {change.file} names {folder}",)
    try_setting(change, folder)
    return (
        *(f"{change.file}: {line}" for line in change.lines),
        "podman, buildah and skopeo see the image store now: images need no import",
        "to take it back: nox -s doctor -- --disable-store",
    )


def disable_image_store() -> tuple[str, ...]:
    """Take the image store out of storage.conf; return lines that say what was done.

    The store is not opened: it may be damaged, or one of a newer version. Raises BuildError, also if the user's own
    images or containers stand on layers of the store, or cannot be listed.
    """
    folder = store_folder()
    change = plan_disabling(folder)
    if not change:
        return (f"podman does not see the image store: {change.file} does not name {folder}",)
    if borrowers := find_borrowers(read_layer_ids(folder)) if is_store(folder) else ():
        raise BuildError(
            f"the image store carries what is in your own storage: {', '.join(borrowers)}; without it, podman would"
            " list no image at all, and start no such container",
            hint="remove containers with podman rm and images with podman rmi --no-prune, then try again",
        )
    write_setting(change)
    return (
        *(f"{change.file}: {line}" for line in change.lines),
        f"the images in {folder} stay there, and podman sees them no more; the next builds import theirs",
    )
