"""What the locks of an image say about GPUs that will not work as it is declared, before anything is built. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from buildkit.declare.framework import Framework
from buildkit.declare.graph import ResolvedStage
from buildkit.findings import Severity
from buildkit.gpu.cuda_versions import compare_need, find_need
from buildkit.plan.framework_layer import DISTRIBUTIONS, find_wheels, missing_frameworks
from buildkit.plan.spec import Spec

_OF_GPUS = ("memory_fraction", "expandable_segments", "amp")


def advise_gpu(resolved: ResolvedStage, layers: Sequence[Spec]) -> tuple[str, ...]:
    """Return a line for each setting or request that the image's wheels cannot meet."""
    wheels = find_wheels(layers)
    return (*_advise_driver(resolved, wheels), *_advise_framework(resolved, wheels))


def _advise_driver(resolved: ResolvedStage, wheels: Mapping[str, str]) -> Iterator[str]:
    """Yield what fails for certain; the audit also tells what may."""
    need = find_need(wheels) if resolved.gpu else None
    found = compare_need(need, resolved.gpu.driver) if need and resolved.gpu else None
    if found and found[0] >= Severity.HIGH:
        yield f"{resolved.stage.file}: gpu.driver: {found[1]}"


def _advise_framework(resolved: ResolvedStage, wheels: Mapping[str, str]) -> Iterator[str]:
    stage = resolved.tuned
    framework = stage.framework if stage else None
    if stage is None or framework is None:
        return
    for name in missing_frameworks(framework, wheels):  # else an error, unless wheels see what the root brings
        projects = " or ".join(DISTRIBUTIONS[name])
        yield f"{stage.file}: framework.{name}: no lock has {projects}; it has an effect only if the root brings it"
    for key, why in _without_gpu(framework, wheels):
        yield f"{stage.file}: framework.{key}: has no effect: {why}"


def _without_gpu(framework: Framework, wheels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield settings of GPUs for builds that have none."""
    torch, version = framework.torch, wheels.get("torch", "")
    if torch and version.endswith("+cpu"):
        for name in _OF_GPUS:
            if getattr(torch, name) not in (None, ""):
                yield f"torch.{name.replace('_', '-')}", f"torch {version} is a build without GPUs"
    tensorflow = framework.tensorflow
    asks = tensorflow is not None and bool(tensorflow.growth or tensorflow.limit)
    if asks and "tensorflow-cpu" in wheels and "tensorflow" not in wheels:
        yield "tensorflow", "tensorflow-cpu is a build without GPUs"
    onnx = framework.onnxruntime
    if onnx and "onnxruntime" in wheels and "onnxruntime-gpu" not in wheels:
        lost = [name for name in onnx.providers if name != "CPUExecutionProvider"]
        if lost:
            yield "onnxruntime.providers", f"onnxruntime has no {lost[0]}: onnxruntime-gpu has it"
