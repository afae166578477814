"""A configuration from a stage's settings and the graphs of the model's versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from buildkit.declare.serve_settings import ServedModel, ServeInstances, ServeWarmUp
from buildkit.triton.check_config import Fault, Faults
from buildkit.triton.check_graph import NUMBER, NUMBER_HINT, check_script_type, graph_dims
from buildkit.triton.data_types import OF_ONNX, ONNX_NAMES, PYTHON
from buildkit.triton.model_config import (
    VARIES,
    Dims,
    DynamicBatching,
    InstanceGroup,
    ModelConfig,
    TensorConfig,
    VersionPolicy,
    Warmup,
    WarmupTensor,
)
from buildkit.triton.onnx_graph import GraphTensor, OnnxGraph

THREADS = "intra_op_thread_count"  # a parameter of the backend onnxruntime
_MICROSECONDS = 1000  # of a millisecond
_KINDS = {"cpu": "KIND_CPU", "gpu": "KIND_GPU"}


def configure(model: ServedModel, backend: str) -> ModelConfig:
    """Return what the settings alone say: a configuration without tensors."""
    batching = model.batching
    warm = model.warm_up
    return ModelConfig(
        name=model.name,
        backend=backend,
        max_batch=model.max_batch,
        instances=tuple(map(_group, model.instances)),
        batching=DynamicBatching(
            preferred=batching.preferred,
            delay=round(batching.delay * _MICROSECONDS),
            queue=batching.queue,
            timeout=round(batching.timeout * _MICROSECONDS),
        )
        if batching
        else None,
        warmups=(Warmup(name="warm-up", batch=warm.batch, inputs=()),) if warm else (),
        policy=VersionPolicy(latest=model.latest, only=model.only),
        parameters=((THREADS, str(model.threads)),) if model.threads else (),
        cached=model.cache,
    )


def _group(group: ServeInstances) -> InstanceGroup:
    return InstanceGroup(kind=_KINDS[group.kind], count=group.count, gpus=group.gpus)


def generate(
    model: ServedModel, backend: str, graphs: Mapping[int, OnnxGraph]
) -> tuple[ModelConfig, tuple[Fault, ...]]:
    """Return the configuration of a model, and what its graphs do not allow.

    Where versions differ in a dimension, it varies; in a name or a type, they are no versions of one model.
    """
    faults: list[Fault] = []
    config = configure(model, backend)
    inputs = _merged({number: graph.inputs for number, graph in graphs.items()}, "input", faults)
    outputs = _merged({number: graph.outputs for number, graph in graphs.items()}, "output", faults)
    batched = bool(model.max_batch)
    taken = tuple(_tensor(one, dims, faults, batched=batched, backend=backend) for one, dims in inputs)
    returned = tuple(_tensor(one, dims, faults, batched=batched, backend=backend) for one, dims in outputs)
    warm = model.warm_up
    if warm:
        faults += _check_shapes(warm, taken)
    warmups = (_warm_up(warm, taken),) if warm else ()
    full = replace(config, inputs=taken, outputs=returned, warmups=warmups)
    return full, tuple(faults)


def _merged(
    versions: Mapping[int, tuple[GraphTensor, ...]], word: str, faults: list[Fault]
) -> Iterator[tuple[GraphTensor, Dims | None]]:
    """Yield each tensor with the dimensions that those of all versions are."""
    first, *others = versions
    for tensor in versions[first]:
        dims = graph_dims(tensor)
        for number in others:
            same = next((one for one in versions[number] if one.name == tensor.name), None)
            if same is None or same.element != tensor.element:
                faults.append(_differs(tensor, same, (word, first, number)))
            elif dims is not None and (other := graph_dims(same)) is not None:
                if len(other) != len(dims):
                    what = f"`{tensor.name}` has {len(dims)} dimensions in version {first}, {len(other)} in {number}"
                    faults.append(Fault(field=word, what=what, hint="serve them as two models"))
                else:
                    dims = tuple(a if a == b else VARIES for a, b in zip(dims, other, strict=True))
        yield tensor, dims
    for number in others:
        known = {tensor.name for tensor in versions[first]}
        more = (tensor for tensor in versions[number] if tensor.name not in known)
        faults.extend(_differs(tensor, None, (word, number, first)) for tensor in more)


def _differs(tensor: GraphTensor, same: GraphTensor | None, at: tuple[str, int, int]) -> Fault:
    word, first, number = at
    has = f"{_onnx(same)} in {number}" if same else f"missing in {number}"
    what = f"`{tensor.name}` is an {word} ({_onnx(tensor)}) of version {first}, and {has}"
    return Fault(field=word, what=what, hint="serve them as two models")


def _onnx(tensor: GraphTensor) -> str:
    return ONNX_NAMES.get(tensor.element, f"element type {tensor.element}")


def _tensor(
    tensor: GraphTensor, dims: Dims | None, faults: list[Fault], *, batched: bool, backend: str
) -> TensorConfig:
    kind = OF_ONNX.get(tensor.element, "TYPE_INVALID")
    if kind == "TYPE_INVALID":
        faults.append(Fault(field="input", what=f"`{tensor.name}` is {_onnx(tensor)}, which Triton has no type for"))
    if backend == PYTHON:
        faults += check_script_type(tensor.name, kind, "input")
    if dims is None:
        faults.append(Fault(field="input", what=f"`{tensor.name}` has no known number of dimensions in its graph",
                            hint="write a config.pbtxt, and name it by `config`"))  # fmt: skip
        dims = (VARIES,)
    if batched and (not dims or dims[0] != VARIES):
        what = f"the first dimension of `{tensor.name}` is fixed, so it takes no batches: [{', '.join(map(str, dims))}]"
        faults.append(Fault(field="max_batch_size", what=what, hint="leave it out"))
    if not dims and not batched and backend != PYTHON:
        faults.append(Fault(field="input", what=f"`{tensor.name}` {NUMBER}", hint=NUMBER_HINT))
    own = dims[1:] if batched else dims
    return TensorConfig(name=tensor.name, type=kind, dims=own or (1,), reshape=() if batched and not own else None)


def _warm_up(warm: ServeWarmUp, inputs: tuple[TensorConfig, ...]) -> Warmup:
    shapes = dict(warm.shapes)
    tensors = (
        WarmupTensor(name=one.name, type=one.type, dims=shapes.get(one.name, one.dims), data=warm.data)
        for one in inputs
    )
    return Warmup(name="warm-up", batch=warm.batch, inputs=tuple(tensors))


def _check_shapes(warm: ServeWarmUp, inputs: tuple[TensorConfig, ...]) -> Faults:
    known = {one.name for one in inputs}
    for name in sorted(dict(warm.shapes).keys() - known):
        what = f"`{name}` of `shapes` is no input"
        yield Fault(field="model_warmup", what=what, hint=f"inputs are {', '.join(sorted(known))}")
