"""Settings of frameworks in an image: variables of its config, and the layer of ``xoe_runtime`` for the rest. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from buildkit.declare.framework import Framework, OnnxruntimeSettings
from buildkit.declare.gpu_request import parse_size
from buildkit.declare.graph import ResolvedStage
from buildkit.declare.project import Project
from buildkit.declare.stage import Stage
from buildkit.digest import FileHash, canonical_json
from buildkit.errors import DefinitionError, Problem
from buildkit.layers.framework import MODULE, layer_texts, module_files
from buildkit.plan.roots import step_names
from buildkit.plan.spec import Kind, PackFramework, PackWheels, Spec, distinct, make_recipe, make_spec

DISTRIBUTIONS = {
    "torch": ("torch",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tf-nightly"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
}
"""The projects that bring each framework, as locks write their names."""
_MIB = 1 << 20
_ALLOCATOR_SINCE = (2, 10)  # 2.9 knows PYTORCH_ALLOC_CONF, and ignores it for CUDA (pytorch/pytorch#183387)


def compose_framework(resolved: ResolvedStage, layers: Iterable[Spec], project: Project) -> Spec | None:
    """Return the layer of a stage's settings, None without any; ``layers`` are the others of its image.

    Raises DefinitionError if the image lacks a framework that is named, or the environment of wheels.
    """
    stage, others = resolved.tuned, tuple(layers)
    if stage is None or stage.framework is None:
        return None
    _check_framework(stage, stage.framework, others, project)
    folder = f"/{project.target.site_packages}/{MODULE}"
    settings = framework_settings(stage.framework)
    recipe, key = make_recipe(
        Kind.FRAMEWORK,
        target=folder,
        module=[[name, FileHash.of(text.encode()).hex] for name, text in module_files().items()],
        settings=settings,
        **project.stored,
    )
    own = (spec.name.removeprefix(f"{stage.name}/") for spec in others if spec.name.startswith(f"{stage.name}/"))
    work = PackFramework(target=folder, settings=canonical_json(settings))
    name = distinct(MODULE, [*step_names(stage), *own])
    spec = make_spec(stage, name, Kind.FRAMEWORK, recipe, key, work=work, history=f"settings of frameworks: {folder}")
    return replace(spec, weight=sum(len(text.encode()) for text in layer_texts(work.settings).values()))


def framework_settings(framework: Framework) -> dict[str, Any]:
    """Return what ``xoe_runtime`` applies, as JSON: what no framework reads from the environment."""
    found: dict[str, Any] = {"threads": True} if framework.threads else {}
    if torch := framework.torch:
        chosen = {"memory_fraction": torch.memory_fraction, "amp": torch.amp, "tf32": torch.tf32}
        found["torch"] = {key: value for key, value in chosen.items() if value not in (None, "")}
        found["torch"] |= {"checkpoint": True} if torch.checkpoint else {}
    if tensorflow := framework.tensorflow:
        found["tensorflow"] = {"limit": parse_size(tensorflow.limit) // _MIB} if tensorflow.limit else {}
    if onnx := framework.onnxruntime:
        found["onnxruntime"] = {"providers": list(onnx.providers), **_cuda_options(onnx)}
        if onnx.enable_cpu_mem_arena is not None:
            found["onnxruntime"]["enable_cpu_mem_arena"] = onnx.enable_cpu_mem_arena
    return found


def _cuda_options(onnx: OnnxruntimeSettings) -> dict[str, str]:
    """Return options of the CUDA execution provider, texts as ONNX Runtime takes them."""
    copies = onnx.do_copy_in_default_stream
    options = {
        "gpu_mem_limit": str(parse_size(onnx.gpu_mem_limit)) if onnx.gpu_mem_limit else "",
        "arena_extend_strategy": onnx.arena_extend_strategy,
        "cudnn_conv_algo_search": onnx.cudnn_conv_algo_search,
        "do_copy_in_default_stream": "" if copies is None else str(int(copies)),
    }
    return {key: value for key, value in options.items() if value}


def framework_environment(
    resolved: ResolvedStage, layers: Iterable[Spec], declared: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables that frameworks read themselves.

    ``declared`` are those of ``[config.env]``. Raises DefinitionError if one says something else.
    """
    stage = resolved.tuned
    framework = stage.framework if stage else None
    if stage is None or framework is None:
        return {}
    env: dict[str, str] = {}
    if framework.torch and framework.torch.expandable_segments is not None:
        env[_allocator_variable(find_wheels(layers))] = f"expandable_segments:{framework.torch.expandable_segments}"
    if framework.tensorflow and framework.tensorflow.growth:
        env["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    problems = [
        Problem(file=stage.file, key="framework", what=f"sets {name}={value}, and `config.env` says `{declared[name]}`",
                hint="keep one of the two")
        for name, value in env.items() if declared.get(name, value) != value
    ]  # fmt: skip
    if problems:
        raise DefinitionError.of(problems)
    return env


def _allocator_variable(wheels: Mapping[str, str]) -> str:
    """Return the name under which this release of PyTorch reads the settings of its allocator."""
    found = re.match(r"(\d+)\.(\d+)", wheels.get("torch", ""))
    old = found is not None and (int(found[1]), int(found[2])) < _ALLOCATOR_SINCE
    return "PYTORCH_CUDA_ALLOC_CONF" if old else "PYTORCH_ALLOC_CONF"


def find_wheels(layers: Iterable[Spec]) -> dict[str, str]:
    """Return the versions of an image's wheels by the names of their projects."""
    works = (spec.work for spec in layers if isinstance(spec.work, PackWheels))
    return {wheel.name: wheel.version for work in works for wheel in work.wheels}


def missing_frameworks(framework: Framework, wheels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the frameworks that are named and that none of the wheels brings."""
    return tuple(
        name
        for name, projects in DISTRIBUTIONS.items()
        if getattr(framework, name) is not None and not any(project in wheels for project in projects)
    )


def _check_framework(stage: Stage, framework: Framework, layers: tuple[Spec, ...], project: Project) -> None:
    problems = []
    if not any(spec.kind is Kind.PREFIX for spec in layers):
        what = f"needs wheels: the module {MODULE} goes into their virtual environment, and this image has none"
        problems.append(Problem(file=stage.file, key="framework", what=what, hint="add [wheels], or `include` them"))
    elif not project.target.sees_system:  # else the root may bring it
        for name in missing_frameworks(framework, find_wheels(layers)):
            what = f"sets {name}, and no lock of this image has {' or '.join(DISTRIBUTIONS[name])}"
            problems.append(
                Problem(
                    file=stage.file, key=f"framework.{name}", what=what, hint="add it to a lock, or remove the table"
                )
            )
    if problems:
        raise DefinitionError.of(problems)
