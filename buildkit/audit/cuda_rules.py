"""The rules of the audit at rest about CUDA and the driver of the host."""

from __future__ import annotations

from buildkit.findings import Rule, Severity

CUDA_DRIVER = Rule(
    id="cuda-driver",
    title="CUDA in the image needs a newer driver than the request allows",
    severity=Severity.HIGH,
    why="On a host that meets [gpu] CUDA may not start; some frameworks then compute on the CPU and say nothing.",
    advice="Raise `driver` in [gpu] of the stage, or lock a build for an older CUDA.",
)
CUDA_COMPAT = Rule(
    id="cuda-compat",
    title="The image has a driver library that is older than the driver of its hosts",
    severity=Severity.MEDIUM,
    why="A libcuda.so that the linker finds in the image replaces the host's. If it is older than the driver's "
    "kernel module, CUDA fails with error 803 (unsupported display driver / CUDA driver combination).",
    advice="Leave cuda-compat out, or off the search path: the container toolkit uses it where it helps.",
)
