"""Render a configuration as ``config.pbtxt``: the text format of protocol buffers, in a fixed order.

https://protobuf.dev/reference/protobuf/textformat-spec/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from buildkit.triton.data_types import BACKENDS, ENSEMBLE
from buildkit.triton.model_config import (
    Dims,
    DynamicBatching,
    EnsembleStep,
    InstanceGroup,
    ModelConfig,
    TensorConfig,
    VersionPolicy,
    Warmup,
)

Lines = Iterator[str]
_SPECIAL = re.compile(r"[\x00-\x1f\x7f\"\\]")


def render_config(config: ModelConfig) -> str:
    """Return the text of a configuration."""
    return "\n".join(_config(config)) + "\n"


def quote_text(text: str) -> str:
    """Return a string of the text format: UTF-8, with quotes, backslashes and control characters escaped in octal."""
    return '"' + _SPECIAL.sub(lambda found: f"\\{ord(found[0]):03o}", text) + '"'


def _config(config: ModelConfig) -> Lines:
    yield f"name: {quote_text(config.name)}"
    yield from _kind(config.backend)
    yield f"max_batch_size: {config.max_batch}"
    for word, tensors in (("input", config.inputs), ("output", config.outputs)):
        for tensor in tensors:
            yield from _block(word, _tensor(tensor))
    for group in config.instances:
        yield from _block("instance_group", _group(group))
    if config.batching:
        yield from _block("dynamic_batching", _batching(config.batching))
    if config.steps:
        steps = (line for step in config.steps for line in _block("step", _step(step)))
        yield from _block("ensemble_scheduling", steps)
    yield from _block("version_policy", iter((_policy(config.policy),)))
    for name, value in config.parameters:
        yield f"parameters {{ key: {quote_text(name)} value {{ string_value: {quote_text(value)} }} }}"
    for warmup in config.warmups:
        yield from _block("model_warmup", _warmup(warmup))
    if config.cached:
        yield "response_cache { enable: true }"
    if config.file:
        yield f"default_model_filename: {quote_text(config.file)}"


def _kind(backend: str) -> Lines:
    if backend == ENSEMBLE:
        yield f"platform: {quote_text(ENSEMBLE)}"
        return
    yield f"backend: {quote_text(backend)}"
    if backend in BACKENDS and BACKENDS[backend].platform:
        yield f"platform: {quote_text(BACKENDS[backend].platform)}"


def _block(word: str, lines: Iterable[str]) -> Lines:
    yield f"{word} {{"
    yield from (f"  {line}" for line in lines)
    yield "}"


def _tensor(tensor: TensorConfig) -> Lines:
    yield f"name: {quote_text(tensor.name)}"
    yield f"data_type: {tensor.type}"
    yield f"dims: {_list(tensor.dims)}"
    if tensor.reshape is not None:
        yield f"reshape {{ shape: {_list(tensor.reshape)} }}"
    if tensor.optional:
        yield "optional: true"
    if tensor.labels:
        yield f"label_filename: {quote_text(tensor.labels)}"


def _list(numbers: Dims) -> str:
    return f"[{', '.join(map(str, numbers))}]"


def _group(group: InstanceGroup) -> Lines:
    yield f"kind: {group.kind}"
    yield f"count: {group.count}"
    if group.gpus:
        yield f"gpus: {_list(group.gpus)}"


def _batching(batching: DynamicBatching) -> Lines:
    if batching.preferred:
        yield f"preferred_batch_size: {_list(batching.preferred)}"
    yield f"max_queue_delay_microseconds: {batching.delay}"
    policy = []
    if batching.timeout:
        policy.append(f"default_timeout_microseconds: {batching.timeout}")
    if batching.queue:
        policy.append(f"max_queue_size: {batching.queue}")
    if policy:
        yield from _block("default_queue_policy", policy)


def _step(step: EnsembleStep) -> Lines:
    yield f"model_name: {quote_text(step.model)}"
    yield f"model_version: {step.version}"
    for word, pairs in (("input_map", step.inputs), ("output_map", step.outputs)):
        for own, shared in pairs:
            yield f"{word} {{ key: {quote_text(own)} value: {quote_text(shared)} }}"


def _policy(policy: VersionPolicy) -> str:
    if policy.only:
        return f"specific {{ versions: {_list(policy.only)} }}"
    return f"latest {{ num_versions: {policy.latest} }}" if policy.latest else "all { }"


def _warmup(warmup: Warmup) -> Lines:
    yield f"name: {quote_text(warmup.name)}"
    yield f"batch_size: {warmup.batch}"
    for tensor in warmup.inputs:
        data = f"{tensor.data}_data: true" if tensor.data in ("zero", "random") else ""
        data = data or f"input_data_file: {quote_text(tensor.data)}"
        value = (f"data_type: {tensor.type}", f"dims: {_list(tensor.dims)}", data)
        yield from _block("inputs", (f"key: {quote_text(tensor.name)}", *_block("value", value)))
