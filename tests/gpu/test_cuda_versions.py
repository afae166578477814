"""What packages and files tell of their CUDA, and which drivers fit it."""

from __future__ import annotations

import pytest

from buildkit.findings import Severity
from buildkit.gpu.cuda_versions import (
    compare_need,
    find_cuda,
    find_driver_version,
    find_library_cuda,
    find_lowest,
    find_need,
    is_older,
)


@pytest.mark.parametrize(
    ("name", "version", "cuda"),
    [
        ("nvidia-cuda-runtime-cu12", "12.8.90", (12, 8)),
        ("nvidia-cuda-runtime", "13.0.96", (13, 0)),
        ("nvidia-cuda-runtime", "0.0.1a0", None),  # a placeholder of the index
        ("nvidia-cuda-runtime-cu11", "11.8.89", (11, 8)),
        ("cuda-toolkit", "13.0.2", (13, 0)),
        ("torch", "2.13.0+cu130", (13, 0)),
        ("torch", "2.5.1+cu118", (11, 8)),
        ("torch", "2.13.0+cpu", None),
        ("torch", "2.13.0", None),
        ("torchvision", "0.28.0+rocm6.4", None),
        ("jaxlib", "0.4.30+cuda12.cudnn91", (12,)),
        ("jaxlib", "0.4.16+cuda11.8", (11, 8)),
        ("nvidia-cudnn-cu12", "9.10.2.21", (12,)),
        ("cupy-cuda12x", "14.0", (12,)),
        ("jax-cuda13-plugin", "0.9", (13,)),
        ("numpy", "2.5.5", None),
        ("custard", "12.8", None),
        ("x-cu12e", "1", None),
    ],
)
def test_cuda_of_a_package_is_in_its_name_or_version(name: str, version: str, cuda: tuple[int, ...] | None) -> None:
    assert find_cuda(name, version) == cuda


def test_cuda_of_a_file_is_in_what_it_needs() -> None:
    assert find_library_cuda(["libc.so.6", "libcudart.so.12", "libcublas.so.12"]) == (12,)
    assert find_library_cuda(["libcuda.so.1", "libcudnn.so.9"]) is None


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("usr/local/cuda-12.8/compat/libcuda.so.570.124.06", "570.124.06"),
        ("libcuda.so.590.44.01", "590.44.01"),
        ("usr/lib/libcuda.so.1", ""),
        ("usr/lib/libcuda.so", ""),
        ("usr/lib/libcudart.so.12.8.90", ""),
    ],
)
def test_a_drivers_library_has_its_version_in_its_name(path: str, version: str) -> None:
    assert find_driver_version(path) == version


@pytest.mark.parametrize(
    ("first", "second", "older"),
    [
        ("570", "580.65.06", True),
        ("580", "580.65.06", False),  # the branch; which release of it, nobody said
        ("580.65.05", "580.65.06", True),
        ("580.126.09", "580.65.06", False),
        ("1000.1", "580.65.06", False),
    ],
)
def test_drivers_are_compared_as_numbers_as_far_as_both_tell(first: str, second: str, older: bool) -> None:
    assert is_older(first, second) is older


def test_lowest_driver_of_a_range() -> None:
    assert [find_lowest(text) for text in (">=570,<600", "<600", "", ">=535,>=550.54")] == ["570", "", "", "550.54"]


def test_greatest_need_counts_and_names_what_has_it() -> None:
    wheels = {"nvidia-cudnn-cu12": "9.10", "nvidia-cuda-runtime-cu12": "12.8.90", "torch": "2.13.0+cu128", "numpy": "2"}
    need = find_need(wheels, {"site-packages/x.so": (12,)})
    assert need is not None
    assert (need.title, need.least, need.own) == (
        "nvidia-cuda-runtime-cu12 12.8.90 (CUDA 12.8)", "525.60.13", "570.26",
    )  # fmt: skip
    assert find_need({"numpy": "2"}) is None


@pytest.mark.parametrize(
    ("wanted", "severity"),
    [
        (">=520", Severity.HIGH),
        (">=525.60.13", Severity.NOTE),  # minor version compatibility
        (">=570", None),
        (">=580", None),
        ("", Severity.NOTE),
        ("<600", Severity.NOTE),
    ],
)
def test_request_is_compared_with_both_drivers_of_a_cuda(wanted: str, severity: Severity | None) -> None:
    need = find_need({"torch": "2.13.0+cu128"})
    assert need is not None
    found = compare_need(need, wanted)
    assert (found[0] if found else None) == severity


def test_a_cuda_that_no_table_knows_is_no_finding() -> None:
    need = find_need({"torch": "9.0+cu200"})
    assert need is not None
    assert compare_need(need, ">=100") is None
    newer = find_need({"nvidia-cuda-runtime": "13.9.1"})  # its first number is enough for the least
    assert newer is not None
    assert compare_need(newer, ">=570") == (
        Severity.HIGH, "nvidia-cuda-runtime 13.9.1 (CUDA 13.9) needs driver 580.65.06, and [gpu] allows 570",
    )  # fmt: skip
