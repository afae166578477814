"""CUDA versions of packages and files, and the drivers that they need. Pure.

The drivers are those of NVIDIA's *CUDA Toolkit Release Notes* for Linux: table 2 (minor version compatibility), table 3
(toolkit and corresponding driver).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from buildkit.findings import Severity
from buildkit.lazy_dataclass import dataclass

Cuda = tuple[int, ...]
"""A version of CUDA: ``(12, 8)``, or ``(12,)`` where only the first number is known."""

_LEAST: Mapping[int, str] = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
_OWN: Mapping[Cuda, str] = {
    (11, 0): "450.51.05", (11, 1): "455.23", (11, 2): "460.27.03", (11, 3): "465.19.01", (11, 4): "470.42.01",
    (11, 5): "495.29.05", (11, 6): "510.39.01", (11, 7): "515.43.04", (11, 8): "520.61.05",
    (12, 0): "525.60.13", (12, 1): "530.30.02", (12, 2): "535.54.03", (12, 3): "545.23.06", (12, 4): "550.54.14",
    (12, 5): "555.42.02", (12, 6): "560.28.03", (12, 8): "570.26", (12, 9): "575.51.03",
    (13, 0): "580.65.06", (13, 1): "590.44.01", (13, 2): "595.45.04", (13, 3): "610.43.02",
}  # fmt: skip
_RUNTIME = re.compile(r"nvidia-cuda-runtime(?:-cu\d+)?|cuda-toolkit")
_LOCAL = re.compile(r"\+(?:cu(\d\d)(\d)(?!\d)|cuda(\d\d)(?:\.(\d+))?)")  # torch 2.13.0+cu130, jaxlib 0.4.30+cuda12
_SUFFIX = re.compile(r"-cu(?:da)?(\d\d)x?(?:-|$)")  # nvidia-cudnn-cu12, cupy-cuda12x, jax-cuda13-plugin
_LIBRARY = re.compile(r"lib(?:cudart|cublas)\.so\.(\d+)")
_DRIVER = re.compile(r"(?:.*/)?libcuda\.so\.(\d{3,4}(?:\.\d+)+)")


class NeedsLibraries(Protocol):
    """A native file: the names of the libraries that it needs."""

    @property
    def needed(self) -> Sequence[str]: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverNeed:
    """What a package or file of CUDA needs of the driver.

    With a driver below ``least`` it fails; with one below ``own``, that of its toolkit, it runs by minor version
    compatibility. Either is empty if it is not known.
    """

    what: str
    cuda: Cuda
    least: str
    own: str

    @property
    def title(self) -> str:
        """Its name and its CUDA, for messages: ``torch 2.13.0+cu130 (CUDA 13.0)``."""
        return f"{self.what} (CUDA {'.'.join(map(str, self.cuda))})"


def find_cuda(name: str, version: str) -> Cuda | None:
    """Return the CUDA that a package is built for, by its normalised name and its version; None if they tell none."""
    if _RUNTIME.fullmatch(name):
        return parse_numbers(version)[:2] if parse_numbers(version)[:1] > (0,) else None
    if local := _LOCAL.search(version):
        return tuple(int(part) for part in local.groups() if part)
    suffix = _SUFFIX.search(name)
    return (int(suffix[1]),) if suffix else None


def find_library_cuda(needed: Iterable[str]) -> Cuda | None:
    """Return the CUDA of the libraries that a native file needs (``libcudart.so.12``); None if it needs none."""
    found = (_LIBRARY.fullmatch(name) for name in needed)
    return max(((int(one[1]),) for one in found if one), default=None)


def find_file_needs(files: Mapping[str, NeedsLibraries]) -> dict[str, Cuda]:
    """Return the CUDA of each native file that needs CUDA's libraries, by path."""
    found = ((path, find_library_cuda(file.needed)) for path, file in files.items())
    return {path: cuda for path, cuda in found if cuda}


def find_driver_version(path: str) -> str:
    """Return the version in the name of a driver's library (``libcuda.so.570.26``); empty for any other file."""
    found = _DRIVER.fullmatch(path)
    return found[1] if found else ""


def find_need(versions: Mapping[str, str], files: Mapping[str, Cuda] | None = None) -> DriverNeed | None:
    """Return the greatest need of an image; None without CUDA.

    ``versions`` are packages by normalised name, ``files`` the CUDA of native files by path.
    """
    found = [(cuda, f"{name} {text}") for name, text in versions.items() if (cuda := find_cuda(name, text))]
    found += [(cuda, path) for path, cuda in (files or {}).items()]
    if not found:
        return None
    newest = max(cuda for cuda, _ in found)
    what = min(name for cuda, name in found if cuda == newest)
    return DriverNeed(what=what, cuda=newest, least=_LEAST.get(newest[0], ""), own=_OWN.get(newest, ""))


def compare_need(need: DriverNeed, wanted: str) -> tuple[Severity, str] | None:
    """Return what a request for drivers (``>=570``; empty: any) lacks, and how much it matters; None for nothing."""
    lowest = find_lowest(wanted)
    if not need.least:
        return None
    if not lowest:
        return Severity.NOTE, f'{need.title} needs driver {need.least}, and [gpu] names none: driver = ">={need.least}"'
    if is_older(lowest, need.least):
        return Severity.HIGH, f"{need.title} needs driver {need.least}, and [gpu] allows {lowest}"
    if need.own and is_older(lowest, need.own):
        what = f"{need.title} comes with driver {need.own}, and [gpu] allows {lowest}"
        return Severity.NOTE, f"{what}: minor version compatibility lacks what is new in it, such as compiling PTX"
    return None


def find_lowest(wanted: str) -> str:
    """Return the oldest driver of a range (``>=570,<600``); empty if it has no lower end."""
    return max(re.findall(r">=([\d.]+)", wanted), key=parse_numbers, default="")


def is_older(version: str, other: str) -> bool:
    """Return whether a driver is older than another, as far as both tell: ``570`` is not older than ``570.26``."""
    first, second = parse_numbers(version), parse_numbers(other)
    return first < second[: len(first)]


def parse_numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version."""
    return tuple(int(digits) for digits in re.findall(r"\d{1,6}", version))
