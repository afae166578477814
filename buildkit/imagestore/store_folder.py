"""Where the user's image store is: in the data folder, because emptying the cache folder must not break images."""

from __future__ import annotations

import os
from pathlib import Path

from buildkit.errors import BuildError
from buildkit.imagestore.image_store import VARIABLE, ImageStore, is_store


def store_folder() -> Path:
    """Return ``$BUILDKIT_STORE`` or, if it is unset, ``xoe-buildkit/store`` in the user's data folder (XDG).

    The path is absolute, because links and settings name it. Raises BuildError for a path that cannot be one.
    """
    setting = os.environ.get(VARIABLE)
    hint = f"set {VARIABLE}=/path to a folder for the image store"
    try:
        folder = (Path(setting).expanduser() if setting else _user_data() / "store").absolute()
    except RuntimeError:
        raise BuildError(f"{setting}: there is no such home folder", hint=hint) from None
    if any(character in str(folder) for character in ':,"\\\n'):  # they end a path in options of mount(8)
        raise BuildError(f"{folder}: the image store's path has a character that no mount option takes", hint=hint)
    return folder


def find_image_store() -> ImageStore | None:
    """Return the user's image store, None if it was never made. Raises BuildError if it cannot be used."""
    folder = store_folder()
    return ImageStore.open(folder) if is_store(folder) else None


def _user_data() -> Path:
    from platformdirs import user_data_path

    return user_data_path("xoe-buildkit", appauthor=False)
