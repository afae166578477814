"""What is wrong with a configuration of a model, held against the table of backends, its files, versions and GPUs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field

from buildkit.declare.gpu_request import GpuRequest
from buildkit.declare.schema import suggest_word
from buildkit.errors import Problem
from buildkit.lazy_dataclass import dataclass
from buildkit.triton.data_types import BACKENDS, ENSEMBLE, PLATFORMS
from buildkit.triton.model_config import VARIES, ModelConfig, TensorConfig, Warmup

_SETTINGS = {
    "version_policy": "policy",
    "instance_group": "instances",
    "dynamic_batching": "batching",
    "model_warmup": "warm-up",
    "response_cache": "cache",
    "max_batch_size": "max-batch",
    "ensemble_scheduling": "step",
    "input": "versions",
    "output": "versions",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A mistake at a field of a configuration (``instance_group[0].gpus``), and what is right."""

    field: str
    what: str
    hint: str = ""


Faults = Iterator[Fault]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigOrigin:
    """Where a configuration comes from: ``lines`` of a ``file`` that was written by hand, or a stage file's ``key``."""

    file: str
    key: str = ""
    lines: Mapping[str, int] | None = field(default=None, compare=False)

    def problem(self, fault: Fault) -> Problem:
        """Return a fault as a problem of that file: with the line of the field, or of the one that it is missing in."""
        if self.lines is None:
            word = fault.field.partition("[")[0].partition(".")[0]
            key = f"{self.key}.{_SETTINGS[word]}" if word in _SETTINGS else self.key
            return Problem(file=self.file, key=key, what=fault.what, hint=fault.hint)
        path = fault.field
        while path and path not in self.lines:
            path = path.rpartition(".")[0]
        file = f"{self.file}:{self.lines[path]}" if path else self.file
        return Problem(file=file, key=fault.field, what=fault.what, hint=fault.hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFacts:
    """What a configuration is held against: the files of each version's folder and of the model's, and the GPUs."""

    name: str
    versions: Mapping[int, tuple[str, ...]]
    texts: tuple[str, ...] = ()
    gpu: GpuRequest | None = None
    platform: str = ""


def check_config(config: ModelConfig, facts: ConfigFacts) -> Faults:
    """Yield every fault of one configuration by itself; ensembles are checked together (`ensembles.check_wiring`)."""
    if config.name != facts.name:
        yield Fault(field="name", what=f"`{config.name}` is not the model's name", hint=f'write name: "{facts.name}"')
    yield from _check_backend(config, facts)
    yield from _check_tensors(config)
    yield from _check_batching(config)
    yield from _check_instances(config, facts.gpu)
    yield from _check_versions(config, facts)
    yield from _check_warmups(config)
    if config.cached and (config.decoupled or config.sequences):
        why = "sequences" if config.sequences else "decoupled answers"
        yield Fault(field="response_cache", what=f"cannot keep answers of a model with {why}", hint="leave it out")


def _check_backend(config: ModelConfig, facts: ConfigFacts) -> Faults:
    if not config.backend:
        known = list(PLATFORMS)
        hint = suggest_word(facts.platform, known) or f"write backend: one of {', '.join(BACKENDS)}"
        what = f"`{facts.platform}` is no platform" if facts.platform else "is missing"
        yield Fault(field="platform" if facts.platform else "backend", what=what, hint=hint)
    elif facts.platform not in ("", ENSEMBLE) and PLATFORMS.get(facts.platform) != config.backend:
        own = BACKENDS[config.backend].platform if config.backend in BACKENDS else ""
        hint = f'write "{own}"' if own else "leave it out"
        yield Fault(field="platform", what=f"`{facts.platform}` is not of the backend {config.backend}", hint=hint)
    if (backend := BACKENDS.get(config.backend)) is None:
        return
    for where, tensor in _tensors(config):
        if tensor.type not in backend.types and tensor.type.startswith("TYPE_") and tensor.type != "TYPE_INVALID":
            taken = ", ".join(sorted(backend.types))
            what = f"{tensor.type} of `{tensor.name}` is no type of the backend {backend.name}"
            yield Fault(field=f"{where}.data_type", what=what, hint=f"it has {taken}")
    wanted = config.file or backend.file
    for version, files in facts.versions.items():
        if wanted not in files:
            found = ", ".join(files) or "nothing"
            what = f"version {version} has no file {wanted}, which the backend {backend.name} loads"
            hint = suggest_word(wanted, list(files)) or f"it has {found}"
            yield Fault(field="default_model_filename", what=what, hint=hint)


def _tensors(config: ModelConfig) -> Iterator[tuple[str, TensorConfig]]:
    for word, tensors in (("input", config.inputs), ("output", config.outputs)):
        yield from ((f"{word}[{number}]", tensor) for number, tensor in enumerate(tensors))


def _check_tensors(config: ModelConfig) -> Faults:
    for word, tensors in (("input", config.inputs), ("output", config.outputs)):
        for name, times in Counter(tensor.name for tensor in tensors).items():
            if times > 1 or not name:
                yield Fault(field=word, what=f"`{name}` stands there {times} times" if name else "has no name")
    for where, tensor in _tensors(config):
        yield from _check_tensor(where, tensor, batched=config.max_batch > 0)


def _check_tensor(where: str, tensor: TensorConfig, *, batched: bool) -> Faults:
    if tensor.type == "TYPE_INVALID":
        yield Fault(field=f"{where}.data_type", what=f"of `{tensor.name}` is missing", hint="such as TYPE_FP32")
    if not tensor.dims:
        hint = "dims: [1], in batches with reshape { shape: [] }"
        yield Fault(field=f"{where}.dims", what=f"of `{tensor.name}` is empty", hint=hint)
    for dim in tensor.dims:
        if dim < 1 and dim != VARIES:
            what = f"{dim} of `{tensor.name}` is no dimension"
            yield Fault(field=f"{where}.dims", what=what, hint="write a positive number, or -1 for one that varies")
    if tensor.reshape == () and not batched:
        what = f"of `{tensor.name}` is empty, which Triton takes in batches alone"
        yield Fault(field=f"{where}.reshape", what=what, hint="leave it out")
    if tensor.reshape is not None and _elements(tensor.dims) != _elements(tensor.reshape):
        what = f"{_list(tensor.reshape)} of `{tensor.name}` has not as many elements as dims, {_list(tensor.dims)}"
        yield Fault(field=f"{where}.reshape", what=what, hint="both describe the same values")


def _elements(dims: Sequence[int]) -> tuple[int, int]:
    """Return the product of fixed dimensions, and how many vary."""
    return math.prod(dim for dim in dims if dim != VARIES), sum(dim == VARIES for dim in dims)


def _list(numbers: Iterable[int]) -> str:
    return f"[{', '.join(map(str, numbers))}]"


def _check_batching(config: ModelConfig) -> Faults:
    if config.max_batch < 0:
        yield Fault(field="max_batch_size", what=f"{config.max_batch} is negative", hint="0 if it takes no batches")
    batching = config.batching
    if batching is None:
        return
    if config.backend == ENSEMBLE:
        what = "is not for an ensemble"
        yield Fault(field="dynamic_batching", what=what, hint="its models put requests together")
    if not config.max_batch:
        what = "has no effect: max_batch_size is 0"
        yield Fault(field="dynamic_batching", what=what, hint="set max_batch_size, or leave it out")
        return
    for size in batching.preferred:
        if not 1 <= size <= config.max_batch:
            what = f"{size} is not between 1 and max_batch_size, {config.max_batch}"
            yield Fault(field="dynamic_batching.preferred_batch_size", what=what, hint="lower it, or raise that")
    if batching.levels and not 1 <= batching.default_level <= batching.levels:
        what = f"{batching.default_level} is not between 1 and priority_levels, {batching.levels}"
        yield Fault(field="dynamic_batching.default_priority_level", what=what)


def _check_instances(config: ModelConfig, gpu: GpuRequest | None) -> Faults:
    if config.backend == ENSEMBLE and config.instances:
        yield Fault(field="instance_group", what="is not for an ensemble", hint="set it for its models")
        return
    for number, group in enumerate(config.instances):
        where = f"instance_group[{number}]"
        if group.count < 1:
            yield Fault(field=f"{where}.count", what=f"{group.count} is no number of instances", hint="1 or more")
        if group.kind in ("KIND_CPU", "KIND_MODEL") and group.gpus:
            yield Fault(field=f"{where}.gpus", what=f"cannot be set with {group.kind}", hint="write KIND_GPU")
        elif group.kind == "KIND_GPU" and gpu is None:
            what = "asks for a GPU, and the stage does not"
            yield Fault(field=f"{where}.kind", what=what, hint="add [gpu] to the stage, or write KIND_CPU")
        elif group.gpus and gpu is None:
            what = f"names the GPUs {_list(group.gpus)}, and the stage asks for none"
            yield Fault(field=f"{where}.gpus", what=what, hint="add [gpu] to the stage, or leave them out")
        elif gpu is not None and not gpu.every:
            has = len(gpu.devices) or gpu.count
            beyond = [one for one in group.gpus if not 0 <= one < has]
            if beyond:
                what = f"{_list(beyond)} is beyond the {has} that the stage's [gpu] asks for"
                hint = f"the container counts them from 0 to {has - 1}, whichever they are; or raise gpu.count"
                yield Fault(field=f"{where}.gpus", what=what, hint=hint)


def _check_versions(config: ModelConfig, facts: ConfigFacts) -> Faults:
    if config.backend == ENSEMBLE:
        return
    missing = [one for one in config.policy.only if one not in facts.versions]
    if missing:
        what = f"{_list(missing)} is no version of the repository"
        yield Fault(field="version_policy", what=what, hint=f"it has {_list(facts.versions)}")
    for where, tensor in _tensors(config):
        if tensor.labels and tensor.labels not in facts.texts:
            what = f"the model's folder has no file {tensor.labels}"
            hint = suggest_word(tensor.labels, list(facts.texts)) or "name it in `files` of the stage"
            yield Fault(field=f"{where}.label_filename", what=what, hint=hint)


def _check_warmups(config: ModelConfig) -> Faults:
    inputs = {tensor.name: tensor for tensor in config.inputs}
    for number, warmup in enumerate(config.warmups):
        where = f"model_warmup[{number}]"
        if config.backend == ENSEMBLE:
            yield Fault(field=where, what="is not for an ensemble", hint="warm up its models")
            return
        most = max(config.max_batch, 1)
        if not 1 <= warmup.batch <= most:
            what = f"{warmup.batch} is not between 1 and {most}"
            yield Fault(field=f"{where}.batch_size", what=what)
        if inputs:  # else they are not known yet
            yield from _check_warmup(where, warmup, inputs)


def _check_warmup(where: str, warmup: Warmup, inputs: Mapping[str, TensorConfig]) -> Faults:
    given = {tensor.name for tensor in warmup.inputs}
    for name in sorted(set(inputs) - given):
        if not inputs[name].optional:
            yield Fault(field=f"{where}.inputs", what=f"lacks the input `{name}`", hint="every input must be there")
    for tensor in warmup.inputs:
        known = inputs.get(tensor.name)
        if known is None:
            hint = suggest_word(tensor.name, list(inputs)) or f"inputs are {', '.join(inputs)}"
            yield Fault(field=f"{where}.inputs", what=f"`{tensor.name}` is no input", hint=hint)
            continue
        if tensor.type != known.type:
            yield Fault(field=f"{where}.inputs", what=f"`{tensor.name}` is {known.type}, not {tensor.type}")
        if any(dim < 0 for dim in tensor.dims):
            what = f"`{tensor.name}` needs a shape without -1, for it has dimensions that vary"
            hint = f"{_list(known.dims)} with a number for each -1"
            yield Fault(field=f"{where}.inputs", what=what, hint=hint)
        elif not fits(tensor.dims, known.dims):
            what = f"`{tensor.name}` cannot be {_list(tensor.dims)}"
            yield Fault(field=f"{where}.inputs", what=what, hint=f"it is {_list(known.dims)}")


def fits(dims: Sequence[int], other: Sequence[int]) -> bool:
    """Return whether some shape is of both descriptions."""
    pairs = zip(dims, other, strict=False)
    return len(dims) == len(other) and all(one == two or VARIES in (one, two) for one, two in pairs)
