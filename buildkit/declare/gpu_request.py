"""What a stage or a service asks of GPUs (``[gpu]``): text to a value. It is no part of an image, and moves no key."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from buildkit.declare.schema import (
    BooleanSchema,
    IntegerSchema,
    KeySchema,
    ListSchema,
    TableSchema,
    TextSchema,
    ValueLocation,
    WordOrNumberSchema,
    WordOrTableSchema,
)
from buildkit.lazy_dataclass import dataclass

_MOST = 64  # GPUs of a machine, MIG devices included
_ALL = 0
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_DEVICE = rf"GPU-{_UUID}|MIG-{_UUID}|MIG-GPU-{_UUID}/\d{{1,2}}/\d{{1,2}}|\d{{1,2}}(?::\d{{1,2}})?"
_DRIVER = r"(?:>=|<)\d{1,5}(?:\.\d{1,5}){0,3}"
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_LEGACY = "NVIDIA_VISIBLE_DEVICES"
SHARES = ("exclusive", "mps", "time-slice")


@dataclass(frozen=True, slots=True, kw_only=True)
class MpsLimits:
    """What each program may use of a GPU that MPS shares.

    ``threads`` are percent of its multiprocessors (0: all), ``memory`` is a size as podman writes it (empty: all).
    """

    threads: int = 0
    memory: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRequest:
    """GPUs that a container asks for: ``count`` of any, 0 for all, or those of ``devices``.

    ``devices`` are UUIDs, or indices of GPUs (``0``) and of MIG devices on them (``1:0``), as `nvidia-smi` counts them.
    ``memory`` (``16g``) must be free on each. ``capability`` (``8.0``) is the least compute capability; ``driver``
    (``>=570,<600``) restricts the driver. ``share`` is ``exclusive``, ``mps`` or ``time-slice``. With ``optional`` the
    container runs without GPUs where the request cannot be met. Containers of one word ``apart`` have no device
    in common.
    """

    count: int = 1
    devices: tuple[str, ...] = ()
    memory: str = ""
    capability: str = ""
    driver: str = ""
    share: str = "exclusive"
    optional: bool = False
    mps: MpsLimits = MpsLimits()
    apart: str = ""

    @property
    def every(self) -> bool:
        """Whether it asks for all GPUs of the host."""
        return self.count == _ALL and not self.devices


NO_GPU = GpuRequest(count=-1)
"""``gpu = "none"``: what a stage or a service says that does not take the request of its base."""


def _advise_memory(text: str) -> str:
    found = re.fullmatch(r"(\d+)\s*([kmg])i?b?", text, re.IGNORECASE)
    return f"did you mean `{found[1]}{found[2].lower()}`?" if found else ""


def _advise_device(text: str) -> str:
    if re.fullmatch(_DEVICE, text.removeprefix("nvidia.com/gpu=")):
        return f"did you mean `{text.removeprefix('nvidia.com/gpu=')}`?"
    if text == "all":
        return 'write `count = "all"`'
    return "nox -s gpus lists UUIDs and indices" + ("; a UUID is written in full" if text[:3] in ("GPU", "MIG") else "")


def _advise_driver(text: str) -> str:
    return f"did you mean `>={text}`?" if re.fullmatch(r"\d+(?:\.\d+){0,3}", text) else ""


_SIZE = TextSchema(r"[1-9][0-9]{0,11}[kmg]?", "a size (512m, 16g; bytes without a letter)", advise=_advise_memory)
_MPS = TableSchema(
    {
        "threads": KeySchema(IntegerSchema(1, 100), "most multiprocessors of a program, in percent (default: all)"),
        "memory": KeySchema(_SIZE, "most memory of a program on each GPU (default: all)"),
    }
)
_REQUEST = TableSchema(
    {
        "count": KeySchema(
            WordOrNumberSchema(IntegerSchema(1, _MOST), {"all": _ALL}), 'how many, or "all" (default: 1)'
        ),
        "devices": KeySchema(
            ListSchema(
                TextSchema(_DEVICE, "a GPU: a UUID, an index (0) or a MIG device (1:0)", advise=_advise_device), 1
            ),
            "which, in place of `count`: UUIDs, indices of GPUs (0), of MIG devices (1:0)",
        ),
        "memory": KeySchema(_SIZE, "least memory that is free on each"),
        "capability": KeySchema(
            TextSchema(r"[1-9][0-9]?\.[0-9]", "a compute capability (8.0)"), "least compute capability"
        ),
        "driver": KeySchema(
            TextSchema(rf"{_DRIVER}(?:, ?{_DRIVER})*", "a version range (>=570, or >=570,<600)", advise=_advise_driver),
            "versions of the driver",
        ),
        "share": KeySchema(
            TextSchema(choices=SHARES),
            "whether others may have the same GPU: `exclusive` (the default), through `mps`, or by `time-slice`",
        ),
        "optional": KeySchema(
            BooleanSchema(), "whether it runs without GPUs where this cannot be had (default: false)"
        ),
        "mps": KeySchema(_MPS, 'what each program may use, with share = "mps"'),
    },
    rules={
        "not": {"required": ["count", "devices"]},
        "if": {"required": ["mps"]},
        "then": {"properties": {"share": {"const": "mps"}}, "required": ["share"]},
    },
)
GPU = WordOrTableSchema(_REQUEST, {"none": {"count": NO_GPU.count}})


def parse_gpu_request(read: dict[str, Any] | None, place: ValueLocation) -> GpuRequest | None:
    """Return what `GPU` read, None for nothing; report keys that contradict each other."""
    if read is None:
        return None
    if {"count", "devices"} <= read.keys():
        place.at("count").report("conflicts with `devices`", "a request names how many GPUs or which")
    for name, times in Counter(read.get("devices", ())).items():
        if times > 1:
            place.at("devices").report(f"has {name} twice")
    share = read.get("share", "exclusive")
    if "mps" in read and share != "mps" and not place.at("share").faulty:
        place.at("mps").report("has no effect without MPS", 'add share = "mps"')
    if share == "mps":
        for name in read.get("devices", ()):
            if name.startswith("MIG-") or ":" in name:
                place.at("devices").report(f"{name} is a MIG device, which MPS does not share")
    return GpuRequest(**read | ({"mps": MpsLimits(**read["mps"])} if "mps" in read else {}))


def check_gpu_variables(names: Iterable[str], place: ValueLocation) -> None:
    """Report variables by which NVIDIA's older runtime chooses GPUs: nothing reads them where CDI does."""
    if _LEGACY in names:
        place.at(_LEGACY).report(
            "chooses no GPU: podman hands GPUs over by CDI, which sets it to `void`", "ask for GPUs in [gpu]"
        )


def parse_size(text: str) -> int:
    """Return the bytes of a size as podman writes it (``16g``)."""
    return int(text.rstrip("kmg")) * _UNITS.get(text[-1], 1)
