"""Ensembles: how the tensors of their steps fit together, and the configuration of one from its steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from buildkit.declare.schema import suggest_word
from buildkit.declare.serve_settings import ServedEnsemble, ServeStep
from buildkit.triton.check_config import Fault, Faults, fits
from buildkit.triton.data_types import ENSEMBLE
from buildkit.triton.model_config import LATEST, Dims, EnsembleStep, ModelConfig, TensorConfig, VersionPolicy

_STEP = "ensemble_scheduling.step"
Configs = Mapping[str, ModelConfig]


class _End(NamedTuple):
    """One end of a tensor of an ensemble: the field that names it, whose it is, and its type and full dimensions."""

    field: str
    whose: str
    type: str
    dims: Dims


def wire(ensemble: ServedEnsemble) -> ModelConfig:
    """Return an ensemble's steps as a configuration without tensors."""
    return ModelConfig(
        name=ensemble.name, backend=ENSEMBLE, steps=tuple(map(_step, ensemble.step)), policy=VersionPolicy()
    )


def _step(step: ServeStep) -> EnsembleStep:
    return EnsembleStep(model=step.model, version=step.version or LATEST, inputs=step.input, outputs=step.output)


def complete(ensemble: ServedEnsemble, configs: Configs) -> ModelConfig:
    """Return the configuration of an ensemble whose wiring is right, given those of its models.

    It takes batches if all of its models do, of the size that all take.
    """
    bare = wire(ensemble)
    models = [configs[step.model] for step in bare.steps]
    batch = min(model.max_batch for model in models)
    taken: dict[str, TensorConfig] = {}
    made: dict[str, TensorConfig] = {}
    for step, model in zip(bare.steps, models, strict=True):
        for pairs, tensors, into in ((step.inputs, model.inputs, taken), (step.outputs, model.outputs, made)):
            by_name = {tensor.name: tensor for tensor in tensors}
            for own, shared in pairs:
                dims = by_name[own].dims if batch else model.full_dims(by_name[own])
                into.setdefault(shared, TensorConfig(name=shared, type=by_name[own].type, dims=dims))
    returned = ensemble.output or tuple(name for name in made if name not in taken)
    return ModelConfig(
        name=ensemble.name,
        backend=ENSEMBLE,
        max_batch=batch,
        inputs=tuple(tensor for name, tensor in taken.items() if name not in made),
        outputs=tuple(made[name] for name in returned),
        steps=bare.steps,
        policy=VersionPolicy(),
    )


def check_wiring(config: ModelConfig, configs: Configs, served: Mapping[str, tuple[int, ...]]) -> Faults:
    """Yield what of an ensemble can be known without the tensors of its models: names, versions and circles.

    ``served`` are the versions of each model that are loaded.
    """
    if not config.steps:
        yield Fault(field="ensemble_scheduling", what="has no steps", hint="add a `step` with a model")
    for number, step in enumerate(config.steps):
        where = f"{_STEP}[{number}]"
        if step.model not in configs:
            known = sorted(name for name in configs if name != config.name)
            hint = suggest_word(step.model, known) or f"models are {', '.join(known)}"
            yield Fault(field=f"{where}.model_name", what=f"there is no model `{step.model}`", hint=hint)
        elif step.version != LATEST and step.version not in served[step.model]:
            versions = ", ".join(map(str, served[step.model]))
            what = f"version {step.version} of `{step.model}` is not served"
            yield Fault(field=f"{where}.model_version", what=what, hint=f"it has {versions}; -1 is the latest")
    if circle := _circle(config.name, configs):
        what = f"ensembles contain each other in a circle: {' → '.join(circle)}"
        yield Fault(field="ensemble_scheduling", what=what)
    yield from _check_flow(config)


def _circle(name: str, configs: Configs) -> tuple[str, ...]:
    """Return the circle that a model leads into, each containing the next; () for none."""
    graph: dict[str, tuple[str, ...]] = {}
    left = [name]
    while left:
        one = left.pop()
        if one not in graph:
            graph[one] = tuple(step.model for step in configs[one].steps) if one in configs else ()
            left += graph[one]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        *found, _ = reversed(error.args[1])
        first = found.index(name) if name in found else 0
        return (*found[first:], *found[: first + 1])
    return ()


def _check_flow(config: ModelConfig) -> Faults:
    """Yield tensors that two steps make, and steps that wait for their own results."""
    makers: dict[str, int] = {}
    for number, step in enumerate(config.steps):
        for own, shared in step.outputs:
            if shared in makers:
                what = f"`{shared}` is made by two steps, {makers[shared]} and {number}"
                hint = f"give `{own}` of `{step.model}` another name"
                yield Fault(field=f"{_STEP}[{number}].output_map", what=what, hint=hint)
            makers.setdefault(shared, number)
    waits = [{makers[shared] for _, shared in step.inputs if shared in makers} for step in config.steps]
    done: set[int] = set()
    while ready := {number for number, needed in enumerate(waits) if number not in done and needed <= done}:
        done |= ready
    if stuck := [number for number in range(len(waits)) if number not in done]:
        names = ", ".join(config.steps[number].model for number in stuck)
        what = f"steps wait for each other's tensors in a circle: {names}"
        yield Fault(field=f"{_STEP}[{stuck[0]}].input_map", what=what)


def check_tensors(config: ModelConfig, configs: Configs) -> Faults:
    """Yield what of an ensemble does not fit the tensors of its models; its wiring has no faults.

    Of an ensemble that is generated, the tensors are not known yet: then they are those of its steps.
    """
    made: dict[str, _End] = {}
    taken: list[tuple[str, _End]] = []
    faults: list[Fault] = []
    for number, step in enumerate(config.steps):
        model, where = configs[step.model], f"{_STEP}[{number}]"
        if config.max_batch > model.max_batch:
            what = f"{config.max_batch} is more than `{step.model}` takes, {model.max_batch}"
            yield Fault(field="max_batch_size", what=what, hint=f"write {model.max_batch}")
        made |= _ends(step.outputs, model, model.outputs, (f"{where}.output_map", faults))
        taken += _ends(step.inputs, model, model.inputs, (f"{where}.input_map", faults))
        given = {own for own, _ in step.inputs}
        for tensor in model.inputs:
            if tensor.name not in given and not tensor.optional:
                what = f"lacks `{tensor.name}`, which `{step.model}` takes"
                yield Fault(field=f"{where}.input_map", what=what, hint="map it to a tensor of the ensemble")
    yield from faults
    if config.inputs or config.outputs:
        yield from _check_edges(config, made, taken)
    for shared, end in taken:
        if shared in made:
            yield from _compare(shared, made[shared], end)


def _ends(
    pairs: tuple[tuple[str, str], ...], model: ModelConfig, tensors: tuple[TensorConfig, ...],
    at: tuple[str, list[Fault]],
) -> Iterator[tuple[str, _End]]:  # fmt: skip
    field, faults = at
    by_name = {tensor.name: tensor for tensor in tensors}
    for own, shared in pairs:
        if own not in by_name:
            hint = suggest_word(own, list(by_name)) or f"it has {', '.join(by_name)}"
            faults.append(Fault(field=field, what=f"`{model.name}` has no tensor `{own}` there", hint=hint))
            continue
        tensor = by_name[own]
        yield shared, _End(field, f"`{own}` of `{model.name}`", tensor.type, model.full_dims(tensor))


def _check_edges(config: ModelConfig, made: Mapping[str, _End], taken: list[tuple[str, _End]]) -> Faults:
    """Yield what of the tensors that an ensemble itself takes and returns does not fit its steps."""
    inputs = {one.name: one for one in config.inputs}
    used = {shared for shared, _ in taken}
    for number, one in enumerate(config.inputs):
        if one.name in made:
            yield Fault(field=f"input[{number}].name", what=f"`{one.name}` is also made by {made[one.name].whose}")
        if one.name not in used:
            hint = suggest_word(one.name, sorted(used))
            yield Fault(field=f"input[{number}].name", what=f"no step takes `{one.name}`", hint=hint)
    for shared, end in taken:
        if shared in inputs:
            own = inputs[shared]
            yield from _compare(shared, _End("input", "the ensemble", own.type, config.full_dims(own)), end)
        elif shared not in made:
            known = sorted({*inputs, *made})
            hint = suggest_word(shared, known) or f"tensors are {', '.join(known)}"
            yield Fault(field=end.field, what=f"nothing makes `{shared}`, which is {end.whose}", hint=hint)
    for number, one in enumerate(config.outputs):
        field = f"output[{number}]"
        if one.name not in made:
            hint = suggest_word(one.name, sorted(made)) or f"they make {', '.join(sorted(made))}"
            yield Fault(field=f"{field}.name", what=f"no step makes `{one.name}`", hint=hint)
        else:
            own_end = _End(field, "the ensemble", one.type, config.full_dims(one))
            yield from _compare(one.name, made[one.name], own_end)


def _compare(shared: str, one: _End, other: _End) -> Faults:
    if one.type != other.type:
        what = f"`{shared}` is {one.type} as {one.whose}, and {other.type} as {other.whose}"
        yield Fault(field=other.field, what=what, hint="a step between them must convert it")
    elif not fits(one.dims, other.dims):
        dims = [f"[{', '.join(map(str, end.dims))}]" for end in (one, other)]
        what = f"`{shared}` is {dims[0]} as {one.whose}, and {dims[1]} as {other.whose}"
        yield Fault(field=other.field, what=what, hint="-1 is a dimension that varies, the batch's included")
