"""Ask a registry for the digest that the tag of an image has now."""

from __future__ import annotations

import threading

from buildkit.digest import Digest
from buildkit.errors import DefinitionError, RegistryError, ToolError
from buildkit.oci.reference import parse_ref
from buildkit.tools.registry_errors import RegistryTimeouts
from buildkit.tools.skopeo_registry import SkopeoRegistry

_PATIENCE = RegistryTimeouts(look=15.0, waits=())


def find_digest(image: str) -> str:
    """Return the digest of an image, by its whole name, such as ``sha256:…``; empty if its registry does not tell.

    What is left to a person then names the command that asks, whose own error tells why.
    """
    try:
        manifest = SkopeoRegistry(threading.Event(), _PATIENCE).manifest(parse_ref(image, "FROM"))
    except (DefinitionError, RegistryError, ToolError):
        return ""
    return str(Digest.of(manifest)) if manifest else ""
