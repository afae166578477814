"""skopeo: copy images between folders, local storage and registries, skipping blobs that the target has."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from buildkit.digest import DiffId, Digest
from buildkit.errors import ToolError
from buildkit.tools.process import Command, run
from buildkit.tools.storage_settings import find_storage_hint

TRANSPORTS = ("containers-storage", "oci", "oci-archive", "docker-archive", "dir")
"""skopeo's transports that name an image on this host."""

_ROOTS_LOGIN = Path("/run/containers/0/auth.json")
_ANY_USER = 65534
_POLICIES = ("/etc/containers/policy.json", "/usr/share/containers/policy.json")


def raw_manifest(ref: str) -> bytes | None:
    """Return the manifest of ``ref`` (a name or an image id) in local storage, byte for byte, or None."""
    argv = (*skopeo_argv(), "inspect", "--raw", f"containers-storage:{ref}")  # missing: 1, or 2 since skopeo 1.16
    finished = run(Command(argv=argv, accept=(0, 1, 2), what=f"looking {ref} up in local storage"))
    return finished.stdout if finished.code == 0 else None


def write_layout(folder: Path, manifest: bytes, config: bytes | None = None) -> None:
    """Write a ``dir:`` layout without its layers, which are named by digest digits; ``config`` is optional."""
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    (folder / "manifest.json").write_bytes(manifest)
    if config is not None:
        (folder / Digest.of(config).hex).write_bytes(config)


def skopeo_env_without_blob_cache() -> dict[str, str]:
    """Return an environment in which skopeo keeps its blob info cache in memory: on disk, every entry is flushed.

    From containers/image (blobinfocache, rootless): the cache is below XDG_DATA_HOME, root's in /var unless it works
    for a user, and in memory if the folder cannot be made. Working for a user hides root's own log-in.
    """
    configured = os.environ.keys() & {"REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"}
    if os.geteuid() == 0 and not configured and _ROOTS_LOGIN.exists():
        return {}
    return {"XDG_DATA_HOME": os.devnull, "_CONTAINERS_ROOTLESS_UID": str(os.geteuid() or _ANY_USER)}


def copy_dir_to_storage(folder: Path, ref: str) -> None:
    """Import the ``dir:`` layout in ``folder`` as ``ref``; blobs that storage has are not read. Raises ToolError.

    Its temporary files, up to all layers unpacked, are in ``folder`` too.
    """
    argv = (*skopeo_argv(temporary=folder), "copy", "--quiet", f"dir:{folder}", f"containers-storage:{ref}")
    try:
        run(Command(argv=argv, what=f"importing {ref}", writes=(folder,)))
    except ToolError as error:
        hint = error.hint or find_storage_hint(error.output)
        raise ToolError(error.message, hint=hint, output=error.output) from error


def copy_to_dir(source: str, folder: Path) -> None:
    """Copy an image (``oci:PATH[:TAG]``) to a ``dir:`` layout, whose layer files are named by the digits of digests.

    skopeo verifies what it reads. Raises ToolError for a source that does not exist or is not an image.
    """
    argv = (*skopeo_argv(temporary=folder), "copy", "--quiet", source, f"dir:{folder}")
    run(Command(argv=argv, what=f"reading {source}", writes=(folder,)))


def drop_tag(ref: str) -> str:
    """Return ``NAME@DIGEST`` for ``NAME:TAG@DIGEST``: skopeo accepts only one, and the tag is for people."""
    name, at, digest = ref.partition("@")
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}{at}{digest}" if at else ref


def copy_upper_layers(ref: str, below: Sequence[DiffId], folder: Path) -> tuple[tuple[DiffId, Path], ...]:
    """Write the uncompressed tars of an image's layers above ``below`` to ``folder``; return diff ids and paths.

    ``below`` are the layers underneath, which are not copied: skopeo takes any file with a blob's name for that blob,
    so empty files stand in for them. (An ``oci:`` layout, because ``dir:`` empties its folder first.) Raises
    ToolError, also if the image does not stand on the layers below.
    """
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    for diff_id in below:
        (blobs / diff_id.hex).touch()
    argv = (
        *skopeo_argv(temporary=folder), "copy", "--quiet",
        "--dest-oci-accept-uncompressed-layers",  # else it would compress the layer
        f"containers-storage:{ref}", f"oci:{folder}",
    )  # fmt: skip
    run(Command(argv=argv, what=f"exporting {ref}", writes=(folder,)))
    layers = _find_layers(folder)
    if layers[: len(below)] != tuple(below):
        raise ToolError(f"exporting {ref}: its {len(layers)} layers do not begin with the {len(below)} known ones")
    return tuple((diff_id, blobs / diff_id.hex) for diff_id in layers[len(below) :])


def _find_layers(folder: Path) -> tuple[DiffId, ...]:
    (only,) = json.loads((folder / "index.json").read_bytes())["manifests"]
    manifest = json.loads(_blob(folder, only["digest"]).read_bytes())
    config = json.loads(_blob(folder, manifest["config"]["digest"]).read_bytes())
    return tuple(DiffId.parse(text) for text in config["rootfs"]["diff_ids"])


def _blob(folder: Path, digest: str) -> Path:
    return folder / "blobs" / digest.replace(":", "/")


def find_policy() -> Path | None:
    """Return the policy that skopeo obeys (containers-policy.json(5)), the user's before the system's."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "containers/policy.json"
    return next((path for path in (home, *map(Path, _POLICIES)) if path.exists()), None)


def skopeo_argv(*, temporary: Path | None = None) -> tuple[str, ...]:
    """Return the start of a skopeo command; without ``temporary`` large files go to /var/tmp, even if it is killed."""
    registries = os.environ.get("CONTAINERS_REGISTRIES_CONF")  # podman obeys it, skopeo does not
    return (
        "skopeo",
        *(() if find_policy() else ("--insecure-policy",)),  # without a policy it would refuse to work
        *(("--registries-conf", registries) if registries else ()),
        *(("--tmpdir", str(temporary)) if temporary else ()),
    )
