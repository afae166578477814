"""Read a ``config.pbtxt`` that was written by hand: its text to a value, with the line of each field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from buildkit.declare.schema import suggest_word
from buildkit.errors import DefinitionError, Problem
from buildkit.lazy_dataclass import dataclass
from buildkit.triton.config_schema import PACKAGE, ConfigTextError, config_message, parse_config_text
from buildkit.triton.data_types import ENSEMBLE, PLATFORMS
from buildkit.triton.model_config import (
    DynamicBatching,
    EnsembleStep,
    InstanceGroup,
    ModelConfig,
    TensorConfig,
    VersionPolicy,
    Warmup,
    WarmupTensor,
)
from buildkit.triton.text_lines import find_lines

_MOST = 1 << 20  # bytes of a configuration
_PLACE = re.compile(r"(\d+):(\d+) : (.*)", re.DOTALL)
_UNKNOWN = re.compile(r'Message type "([\w.]+)" (?:has no field named|does not have[^"]*) "(\w+)"')
_NOT_ENUM = re.compile(r'Enum type "([\w.]+)" has no value named (\w+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenConfig:
    """A configuration as its file says it: ``platform`` as it is written, and the lines of fields."""

    config: ModelConfig
    platform: str
    lines: Mapping[str, int] = field(compare=False)


def read_config(text: str, file: str, name: str) -> WrittenConfig:
    """Return the configuration of the model ``name``; what it does not say about its name is that.

    Raises DefinitionError with file and line, and MissingTool without the library.
    """
    if len(text) > _MOST:
        raise DefinitionError.of([Problem(file=file, what=f"is larger than {_MOST >> 20} MiB")])
    try:
        message = parse_config_text(text)
    except ConfigTextError as error:
        raise DefinitionError.of([_explain(str(error), file, config_message().DESCRIPTOR.file)]) from None
    return WrittenConfig(config=_config(message, name), platform=message.platform, lines=find_lines(text))


def _explain(error: str, file: str, types: Any) -> Problem:  # noqa: ANN401 - the library's descriptor
    """Return the library's message with the line, and the nearest word that is right."""
    place = _PLACE.match(error)
    line, what = (place[1], place[3]) if place else ("", error)
    hint = ""
    if unknown := _UNKNOWN.search(what):
        owner = unknown[1].removeprefix(f"{PACKAGE}.")
        fields = types.message_types_by_name[owner].fields_by_name if owner in types.message_types_by_name else {}
        what = f"`{unknown[2]}` is no field of {owner}"
        hint = suggest_word(unknown[2], list(fields)) or f"its fields are {', '.join(fields)}"
    elif unfit := _NOT_ENUM.search(what):
        owner = unfit[1].removeprefix(f"{PACKAGE}.")
        values = list(types.enum_types_by_name[owner].values_by_name) if owner in types.enum_types_by_name else []
        what = f"`{unfit[2]}` is no {owner}"
        hint = suggest_word(unfit[2], values) or f"write one of {', '.join(values)}"
    return Problem(file=f"{file}:{line}" if line else file, what=what.rstrip("."), hint=hint)


def _config(message: Any, name: str) -> ModelConfig:  # noqa: ANN401 - a message of the library
    ensemble = message.HasField("ensemble_scheduling") or message.platform == ENSEMBLE
    backend = message.backend or PLATFORMS.get(message.platform, "")
    return ModelConfig(
        name=message.name or name,
        backend=ENSEMBLE if ensemble else backend,
        max_batch=message.max_batch_size,
        inputs=tuple(map(_tensor, message.input)),
        outputs=tuple(map(_tensor, message.output)),
        instances=tuple(map(_group, message.instance_group)),
        batching=_batching(message.dynamic_batching) if message.HasField("dynamic_batching") else None,
        warmups=tuple(map(_warmup, message.model_warmup)),
        policy=_policy(message.version_policy),
        parameters=tuple(sorted((key, value.string_value) for key, value in message.parameters.items())),
        cached=message.response_cache.enable,
        steps=tuple(map(_step, message.ensemble_scheduling.step)),
        file=message.default_model_filename,
        decoupled=message.model_transaction_policy.decoupled,
        sequences=message.HasField("sequence_batching"),
    )


def _enum(message: Any, field: str) -> str:  # noqa: ANN401
    """Return the name of a value, or its number if it has none."""
    number = getattr(message, field)
    found = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number.get(number)
    return str(found.name if found else number)


def _tensor(message: Any) -> TensorConfig:  # noqa: ANN401
    fields = message.DESCRIPTOR.fields_by_name
    return TensorConfig(
        name=message.name,
        type=_enum(message, "data_type"),
        dims=tuple(message.dims),
        reshape=tuple(message.reshape.shape) if message.HasField("reshape") else None,
        optional="optional" in fields and message.optional,
        labels=message.label_filename if "label_filename" in fields else "",
    )


def _group(message: Any) -> InstanceGroup:  # noqa: ANN401
    return InstanceGroup(kind=_enum(message, "kind"), count=message.count or 1, gpus=tuple(message.gpus))


def _batching(message: Any) -> DynamicBatching:  # noqa: ANN401
    return DynamicBatching(
        preferred=tuple(message.preferred_batch_size),
        delay=message.max_queue_delay_microseconds,
        queue=message.default_queue_policy.max_queue_size,
        timeout=message.default_queue_policy.default_timeout_microseconds,
        levels=message.priority_levels,
        default_level=message.default_priority_level,
    )


def _warmup(message: Any) -> Warmup:  # noqa: ANN401
    inputs = (
        WarmupTensor(
            name=name,
            type=_enum(value, "data_type"),
            dims=tuple(value.dims),
            data=value.input_data_file or ("random" if value.random_data else "zero"),
        )
        for name, value in sorted(message.inputs.items())
    )
    return Warmup(name=message.name, batch=message.batch_size, inputs=tuple(inputs))


def _policy(message: Any) -> VersionPolicy:  # noqa: ANN401
    if message.HasField("specific"):
        return VersionPolicy(only=tuple(message.specific.versions))
    return VersionPolicy() if message.HasField("all") else VersionPolicy(latest=message.latest.num_versions or 1)


def _step(message: Any) -> EnsembleStep:  # noqa: ANN401
    return EnsembleStep(
        model=message.model_name,
        version=message.model_version,
        inputs=tuple(sorted(message.input_map.items())),
        outputs=tuple(sorted(message.output_map.items())),
    )
