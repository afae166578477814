"""Recognise files by their names: GPU drivers, accelerator libraries, optional variants, Python modules."""

from __future__ import annotations

import re

_DRIVERS = re.compile(
    r"lib(?:cuda|cudadebugger|nvidia-[a-z0-9-]+|nvcuvid|nvoptix|nvcudla|nvdla_[a-z_]+|dxcore"
    r"|(?:GLX|EGL|GLESv2|GLESv1_CM|vdpau)_nvidia)\.so(?:\..*)?"
)
_ACCELERATORS = re.compile(
    r"lib(?:cublas|cudart|cudnn|cufft|cufile|cupti|curand|cusolver|cusparse|cutensor|nvblas|nccl|nvinfer|nvjitlink|nvonnx"
    r"|nvrtc|nvshmem|nvToolsExt|nvtiff|nvjpeg|npp|amdhip|hip|hsa|roc|rccl|MIOpen|migraphx|openvino|OpenCL|ze_|sycl|mkl_|dnnl"
    r"|ibverbs|rdmacm|mlx[45]|fabric|efa|mpi|oshmem|pmix|ucp|ucs|uct|ucm|psm|gdrapi|QnnHtp|vulkan|tbb)[A-Za-z0-9_+-]*\.so(?:\..*)?"
)
_OPTIONAL = (  # variants of one file, of which only the fitting one is loaded
    re.compile(r"(?:torio|torchaudio|torchcodec|torchvision)/(?:.*/)?[^/]*(?:ffmpeg|sox|torchcodec|video)[^/]*\.so"),
    re.compile(r"numba/np/ufunc/(?:tbb|omp)pool\.[^/]+\.so"),
    re.compile(r"onnxruntime/capi/libonnxruntime_providers_[^/]+\.so"),
    re.compile(r"(?:^|/)(?:prebuilds|musl[^/]*|[^/]*-musl|[^/]*musllinux[^/]*)/"),
    re.compile(r"(?:sqldrivers|imageformats|platformthemes)/[^/]+\.so"),
)
_MODULE_FOLDER = re.compile(r"(?:.*/)?python3?(?:\.(\d+)t?)?/(?:(?:site|dist)-packages|lib-dynload)/(.*)")
_TAG = re.compile(r"\.(?:cpython-(\d)(\d+)[a-z]*-[^./]+|abi3)\.so")
_DEBUG = re.compile(r"usr/lib/debug/")


def is_driver(name: str) -> bool:
    """Tell whether a library belongs to a GPU driver, which the host mounts into containers at start (CDI)."""
    return bool(_DRIVERS.fullmatch(name))


def is_accelerator(name: str) -> bool:
    """Tell whether a library is for an accelerator or a fast network that few machines have."""
    return bool(_ACCELERATORS.fullmatch(name))


def is_optional(path: str) -> bool:
    """Tell whether a file is loaded only after its package has found everything that it needs."""
    return any(pattern.search(path) for pattern in _OPTIONAL)


def is_packaged(path: str) -> bool:
    """Tell whether a file is in a folder that Python imports from."""
    return bool(_MODULE_FOLDER.match(path))


def is_module(path: str) -> bool:
    """Tell whether Python imports the file as a module, by its name and for this version of Python."""
    found = _MODULE_FOLDER.match(path)
    if found is None or not path.endswith(".so") or ".libs/" in path:
        return False
    tag = _TAG.search(path)
    if tag is not None and tag[2] is not None:
        return found[1] in (None, tag[2])
    return tag is not None or not path.rpartition("/")[2].startswith("lib")


def is_tagged(path: str) -> bool:
    """Tell whether a file's name has a tag of Python modules, for one Python version or for all."""
    return bool(_TAG.search(path))


def is_foreign(path: str) -> bool:
    """Tell whether this image never loads a file: debug symbols, or a module for another Python."""
    found = _MODULE_FOLDER.match(path)
    tag = _TAG.search(path)
    other = found is not None and tag is not None and tag[2] is not None and found[1] not in (None, tag[2])
    return other or bool(_DEBUG.match(path))
