"""What the model hub's own client library (huggingface_hub) keeps for its user: a log-in, and files it has fetched.

The library reads the settings: ``HF_TOKEN``, ``HF_TOKEN_PATH``, ``HF_HOME``, ``HF_HUB_CACHE``, ``HF_HUB_OFFLINE`` and
others (https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables). Nothing is written here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from buildkit.digest import FileHash
from buildkit.errors import FetchError
from buildkit.locks.model_source import HUB

_FILE = re.compile(re.escape(HUB) + r"/(?P<name>[^/]+(?:/[^/]+)?)/resolve/(?P<commit>[0-9a-f]{40})/(?P<path>[^?#]+)")


def find_token() -> str:
    """Return the user's token for the hub, a secret; the empty string if there is none or it is not to be sent."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import OIDCError

    try:
        return ("" if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()) or ""
    except (OSError, UnicodeDecodeError, OIDCError) as error:
        reason = type(error).__name__  # its text may hold the token
        raise FetchError(f"the token for the model hub cannot be read: {reason}", hint="run: hf auth login") from None


def check_online() -> None:
    """Raise FetchError if the user's settings forbid to ask the hub."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        hint = "unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE"
        raise FetchError("the settings forbid to ask the model hub (HF_HUB_OFFLINE)", hint=hint)


def find_cached(url: str, sha256: FileHash | None = None) -> Iterator[Path]:
    """Yield where the library's cache may have the file of a hub at ``url``, of any content.

    That is the file of the commit, and a blob that is named by ``sha256``, which any commit may have brought.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    if (found := _FILE.fullmatch(url)) is None:
        return
    path = unquote(found["path"])
    if ".." in path.split("/"):
        return
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=found["name"], repo_type="model")
    places = [folder / "snapshots" / found["commit"] / path]
    if sha256 is not None:
        places.append(folder / "blobs" / sha256.hex)
    for place in places:
        if place.is_file() and os.access(place, os.R_OK):
            yield place
