"""``cache -- rm IMAGE``: remove images from the image store, as ``podman image rm`` may not."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from buildkit.cache_admin.remove_images import remove_stored_images


def remove_images(names: Sequence[str], *, as_json: bool) -> int:
    """Remove images by name or id, and print what was removed; return 0.

    Raises DefinitionError for one that the store does not have, BuildError for one that a container uses.
    """
    removed = remove_stored_images(names)
    if as_json:
        answer = {"untagged": list(removed.names), "removed": list(removed.images), "kept": list(removed.kept)}
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
        return 0
    sys.stdout.writelines(f"untagged {name}\n" for name in removed.names)
    sys.stdout.writelines(f"removed {image[:12]}\n" for image in removed.images)
    refers = "your own storage refers to it; cache -- gc removes it once nothing does"
    sys.stdout.writelines(f"kept {image[:12]}: {refers}\n" for image in removed.kept)
    sys.stdout.writelines(
        f"your own storage has {name}, too: podman untag {name} {name} takes it away\n" for name in removed.own
    )
    sys.stdout.write("cache -- gc removes layers that no image and no stage needs\n")
    return 0
