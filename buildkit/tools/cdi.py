"""The CDI specifications of this host, as podman finds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from buildkit.gpu.cdi_spec import MAX_SIZE, CdiFault, CdiFile, CdiFiles, parse_cdi_spec
from buildkit.hostile_json import MalformedError

_FOLDERS = ("/etc/cdi", "/var/run/cdi")  # a name in the later one wins
_HOOK_FOLDERS = ("/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d")
_HOOK = b"nvidia-container-"  # -toolkit or -runtime-hook: the program that the older hook starts


def find_cdi(root: Path = Path("/")) -> CdiFiles:
    """Read all specifications below ``root``; what cannot be read is a value. Changes nothing."""
    return CdiFiles(
        files=tuple(file for folder in _FOLDERS for file in _files(root, folder)),
        hooks=tuple(hook for folder in _HOOK_FOLDERS for hook in _hooks(root, folder)),
    )


def _files(root: Path, folder: str) -> Iterator[CdiFile]:
    try:
        names = sorted(path.name for path in (root / folder[1:]).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield CdiFile(path=folder, fault=CdiFault.UNREADABLE, problem=error.strerror or str(error))
        return
    for name in names:
        if name.endswith((".yaml", ".json")):
            yield _file(root, f"{folder}/{name}")
        elif name.endswith(".yml"):
            yield CdiFile(path=f"{folder}/{name}", fault=CdiFault.IGNORED, problem="podman reads *.yaml and *.json")


def _file(root: Path, path: str) -> CdiFile:
    try:
        with (root / path[1:]).open("rb") as file:
            data = file.read(MAX_SIZE + 1)
        if len(data) > MAX_SIZE:
            return CdiFile(path=path, fault=CdiFault.MALFORMED, problem=f"it is larger than {MAX_SIZE} bytes")
        spec = parse_cdi_spec(data)
    except OSError as error:
        return CdiFile(path=path, fault=CdiFault.UNREADABLE, problem=error.strerror or str(error))
    except MalformedError as error:
        return CdiFile(path=path, fault=CdiFault.MALFORMED, problem=str(error))
    return CdiFile(path=path, spec=spec, missing=tuple(need for need in spec.needs if _is_missing(root / need[1:])))


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # this user may not look
    return False


def _hooks(root: Path, folder: str) -> Iterator[str]:
    for path in sorted((root / folder[1:]).glob("*.json")):
        try:
            if _HOOK in path.read_bytes():
                yield f"{folder}/{path.name}"
        except OSError:
            continue  # neither does podman of this user read it
