"""CDI specifications (https://github.com/cncf-tags/container-device-interface): text to values, and podman's rules.

A specification maps names (``nvidia.com/gpu=0``) to device nodes, mounts and hooks. podman answers each of its faults
with one message, ``unresolvable CDI devices``.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from buildkit.hostile_json import JsonValue, MalformedError

NVIDIA = "nvidia.com/gpu"
MAX_SIZE = 8 << 20  # bytes; that of a host with 8 GPUs in 56 MIG devices has less than 1 MB
_MANY = 100_000
_KIND = re.compile(r"[A-Za-z][\w.-]*/[A-Za-z][\w.-]*")
_VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})")
_DRIVER = re.compile(r"/lib(?:cuda|nvidia-ml)\.so\.(\d+(?:\.\d+)+)$")
_KEYS = frozenset(("cdiVersion", "kind", "annotations", "devices", "containerEdits"))
_DEVICE_KEYS = frozenset(("name", "annotations", "containerEdits"))
_EDITS_KEYS = frozenset(("env", "deviceNodes", "hooks", "mounts", "intelRdt", "additionalGids", "netDevices"))
_SINCE = {"annotations": (0, 6, 0), "intelRdt": (0, 7, 0), "additionalGids": (0, 7, 0), "netDevices": (1, 1, 0)}
_NEWEST = (1, 1, 0)  # the newest version whose keys are all known here
_READS = {(4, 3): (0, 5, 0), (5, 4): (0, 8, 0)}  # podman → the newest version that it reads, measured


@dataclass(frozen=True, slots=True, kw_only=True)
class CdiSpec:
    """A specification: its kind (``nvidia.com/gpu``), and the names of its devices, in order.

    ``needs`` are the absolute paths on the host of device nodes, libraries and hook programs that it names, sorted.
    """

    kind: str
    version: str
    devices: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def drivers(self) -> tuple[str, ...]:
        """The driver's versions in the names of its libraries; usually one, none if they are not named so."""
        return tuple(sorted({found[1] for path in self.needs if (found := _DRIVER.search(path))}))


class CdiFault(StrEnum):
    """Why podman does not have what a file says."""

    UNREADABLE = "cannot be read"
    IGNORED = "is ignored"
    MALFORMED = "is not a CDI specification"


@dataclass(frozen=True, slots=True, kw_only=True)
class CdiFile:
    """A file in a folder for specifications, or such a folder that cannot be read.

    ``fault`` and in detail ``problem`` say why ``spec`` is None. ``missing`` are those paths of ``spec.needs`` that the
    host lacks.
    """

    path: str
    spec: CdiSpec | None = None
    fault: CdiFault | None = None
    problem: str = ""
    missing: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the devices, as ``podman run --device`` takes them."""
        return tuple(f"{self.spec.kind}={name}" for name in self.spec.devices) if self.spec else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CdiFiles:
    """All specifications of a host, in the order of folders, of which the last wins, and of names.

    ``hooks`` are files by which podman starts NVIDIA's older hook, which does the same work another way.
    """

    files: tuple[CdiFile, ...] = ()
    hooks: tuple[str, ...] = ()

    def of_kind(self, kind: str) -> tuple[CdiFile, ...]:
        """Return the files of a kind that can be read."""
        return tuple(file for file in self.files if file.spec and file.spec.kind == kind)


def parse_cdi_spec(data: bytes) -> CdiSpec:
    """Parse a specification; JSON is read as YAML, as podman does. Raises MalformedError for what podman refuses."""
    root = JsonValue(_parse_yaml(data))
    version, kind = root.member("cdiVersion"), root.member("kind")
    if not _VERSION.fullmatch(version.text()):
        raise version.error("is not a version such as 0.5.0")
    if not _KIND.fullmatch(kind.text()):
        raise kind.error("is not VENDOR/CLASS")
    devices = root.member("devices").items(_MANY)
    if not devices:
        raise root.member("devices").error("is empty")
    names = tuple(device.member("name").text() for device in devices)
    if doubled := next((name for name, count in Counter(names).items() if count > 1), ""):
        raise root.member("devices").error(f"has {doubled} twice")
    edits = [device.member("containerEdits") for device in devices]
    if bare := next((table for table in edits if not table.raw), None):
        raise bare.error("is empty")
    if shared := root.find("containerEdits"):
        edits.append(shared)
    for tables, keys in (((root,), _KEYS), (devices, _DEVICE_KEYS), (edits, _EDITS_KEYS)):
        for table in tables:
            _check_keys(table, keys, _numbers(version.text()))
    needs = sorted({path for table in edits for path in _paths(table) if path.startswith("/")})
    return CdiSpec(kind=kind.text(), version=version.text().removeprefix("v"), devices=names, needs=tuple(needs))


def may_read(podman: str, version: str) -> bool | None:
    """Return whether a release of podman (``4.3.1``) reads specifications of a version (``0.6.0``).

    None if that is not known: measured were 4.3, which reads up to 0.5.0, and 5.4, which reads up to 0.8.0. A later
    release reads what an earlier one reads.
    """
    release, wanted = _numbers(podman)[:2], _numbers(version)
    if any(release >= measured and wanted <= newest for measured, newest in _READS.items()):
        return True
    if release and any(release <= measured and wanted > newest for measured, newest in _READS.items()):
        return False
    return None


def find_names(cdi: CdiFiles, podman: str) -> frozenset[str]:
    """Return the full names of the devices that a release of podman (``4.3.1``) hands to containers of this host."""
    usable = (file for file in cdi.files if file.spec and not file.missing and _may_be_read(file.spec, podman))
    times = Counter((posixpath.dirname(file.path), name) for file in cdi.files for name in file.names)
    doubled = {name for (_, name), count in times.items() if count > 1}
    return frozenset(name for file in usable for name in file.names) - doubled


def _may_be_read(spec: CdiSpec, podman: str) -> bool:
    return not podman or may_read(podman, spec.version) is not False


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d{1,6}", version))


def _check_keys(table: JsonValue, known: frozenset[str], version: tuple[int, ...]) -> None:
    """Raise MalformedError for keys that podman refuses: unknown ones, and those of a later version than the file's."""
    for key in table.with_keys(known, others=version > _NEWEST).raw_object():
        if version < _SINCE.get(key, ()):
            raise table.error(f"has `{key}`, which needs cdiVersion {'.'.join(map(str, _SINCE[key]))}")


def _parse_yaml(data: bytes) -> Any:  # noqa: ANN401
    import yaml  # only a host with a specification needs it

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # `name: 0` is a text; libyaml is ten times as fast
    try:
        return yaml.load(data, Loader=loader)  # noqa: S506 - both make texts, lists and mappings alone
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MalformedError(f"it is not YAML: {' '.join(str(error).split())}") from None


def _paths(edits: JsonValue) -> Iterator[str]:
    """Yield the paths on the host: of a node its ``hostPath`` or else ``path``."""
    yield from _each(edits, "deviceNodes", lambda node: (node.find("hostPath") or node.member("path")).text())
    yield from _each(edits, "mounts", lambda mount: mount.member("hostPath").text())
    yield from _each(edits, "hooks", lambda hook: hook.member("path").text())


def _each(edits: JsonValue, key: str, read: Callable[[JsonValue], str]) -> Iterator[str]:
    found = edits.find(key)
    yield from map(read, found.items(_MANY) if found else ())
