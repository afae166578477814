"""CUDA in the image against the driver that its stage asks for: packages, native files, and driver libraries."""

from __future__ import annotations

import re
from collections.abc import Iterator

from buildkit.audit import cuda_rules as rules
from buildkit.audit.view import ImageView, format_untrusted
from buildkit.findings import Finding, Severity
from buildkit.gpu.cuda_versions import (
    compare_need,
    find_driver_version,
    find_file_needs,
    find_lowest,
    find_need,
    is_older,
)
from buildkit.native.linker import Linker, LinkLimitError

_DIST_INFO = re.compile(r"(?:^|/)(?:site|dist)-packages/([^/]+)-([^/-]+)\.dist-info/(?:METADATA|RECORD)$")


def check_cuda(view: ImageView) -> Iterator[Finding]:
    """Compare what CUDA needs with the oldest driver of the request, and find driver libraries of the image."""
    need = find_need(_packages(view), find_file_needs(view.native.facts.files)) if view.origin.asks_for_gpu else None
    if need and (found := compare_need(need, view.origin.driver)):
        severity, what = found
        what = format_untrusted(what, 300)
        yield Finding(rule=rules.CUDA_DRIVER, what=what, path="config: gpu", override=severity)
    yield from _check_libraries(view, find_lowest(view.origin.driver))


def _packages(view: ImageView) -> dict[str, str]:
    """Return installed packages by normalised name, by the folders of their metadata."""
    found = (_DIST_INFO.search(path) for path in view.files)
    return {re.sub(r"[-_.]+", "-", one[1]).lower(): one[2] for one in found if one}


def _check_libraries(view: ImageView, lowest: str) -> Iterator[Finding]:
    """Yield each ``libcuda.so`` that takes the place of the host's, or is older than every host's."""
    native = view.native
    linker = Linker(native.facts, view.config.variables)
    for path, elf in sorted(native.facts.files.items()):
        version = find_driver_version(path)
        if not version:
            continue
        try:
            is_used = linker.find_library("libcuda.so.1", elf) == path
        except LinkLimitError:
            is_used = True  # not known, so the worse is taken
        is_old = bool(lowest) and is_older(version, lowest)
        if not is_used and not is_old:
            continue
        age = f"older than {lowest}, the oldest driver that [gpu] allows" if is_old else f"of driver {version}"
        use = "the linker finds it before the host's" if is_used else "no search path has it, so it is dead weight"
        override = Severity.HIGH if is_used and is_old else Severity.MEDIUM if is_used else Severity.LOW
        yield Finding(
            rule=rules.CUDA_COMPAT,
            what=f"it is {age}: {use}",
            path=format_untrusted(path, 4096),
            layer=native.layers.get(path, ""),
            override=override,
        )
