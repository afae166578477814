"""A configuration held against the graph of the model: names, types and dimensions of what it takes and returns."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit.declare.schema import suggest_word
from buildkit.triton.check_config import Fault, Faults, fits
from buildkit.triton.data_types import OF_ONNX, ONNX_NAMES, PYTHON, SCRIPT_TYPES
from buildkit.triton.model_config import VARIES, Dims, ModelConfig, TensorConfig
from buildkit.triton.onnx_graph import GraphTensor, OnnxGraph

NUMBER = "is a number without dimensions, which Triton does not serve"
NUMBER_HINT = 'say backend = "python", whose script takes it as [1]'


def check_script_type(name: str, kind: str, field: str) -> Faults:
    """Yield a type that the script of the Python backend cannot take."""
    if kind not in SCRIPT_TYPES and kind in OF_ONNX.values():
        what = f"{kind} of `{name}` is not for the script that runs ONNX models in the Python backend"
        yield Fault(field=field, what=what, hint='serve it by backend = "onnxruntime"')


def graph_dims(tensor: GraphTensor) -> Dims | None:
    """Return the dimensions of a tensor, -1 for those that vary; None for an unknown rank."""
    if tensor.dims is None:
        return None
    return tuple(dim if isinstance(dim, int) and dim > 0 else VARIES for dim in tensor.dims)


def check_graph(config: ModelConfig, graph: OnnxGraph, version: int) -> Faults:
    """Yield what a configuration says of its tensors and the graph of a version does not."""
    of = f"the graph of version {version}"
    known = (("input", config.inputs, graph.inputs), ("output", config.outputs, graph.outputs))
    for word, configured, tensors in known:
        by_name = {tensor.name: tensor for tensor in tensors}
        names = {one.name for one in configured}
        for number, one in enumerate(configured):
            where = f"{word}[{number}]"
            if one.name not in by_name:
                hint = suggest_word(one.name, list(by_name)) or f"it has {', '.join(by_name)}"
                yield Fault(field=f"{where}.name", what=f"{of} has no {word} `{one.name}`", hint=hint)
            else:
                yield from _check_tensor(config, one, by_name[one.name], (where, of))
        if word == "input":
            for tensor in tensors:
                if tensor.name not in names:
                    what = f"lacks `{tensor.name}`, which {of} takes"
                    yield Fault(field=word, what=what, hint=f"add it: {_describe(tensor)}")


def _check_tensor(config: ModelConfig, one: TensorConfig, tensor: GraphTensor, at: tuple[str, str]) -> Faults:
    where, of = at
    wanted = OF_ONNX.get(tensor.element)
    if wanted is None:
        named = ONNX_NAMES.get(tensor.element, f"element type {tensor.element}")
        yield Fault(field=f"{where}.data_type", what=f"{of} has {named} for `{one.name}`, which Triton has no type for")
    elif one.type != wanted:
        what = f"{one.type} of `{one.name}` is {wanted} in {of}"
        yield Fault(field=f"{where}.data_type", what=what, hint=f"write {wanted}")
    if config.backend == PYTHON:
        yield from check_script_type(one.name, one.type, f"{where}.data_type")
    dims = graph_dims(tensor)
    if dims is None:
        return
    full = (VARIES, *one.model_dims) if config.max_batch else one.model_dims
    if config.max_batch and (not dims or dims[0] != VARIES):
        what = f"takes batches, and the first dimension of `{one.name}` is fixed in {of}: {_list(dims)}"
        yield Fault(field="max_batch_size", what=what, hint="write 0")
    elif not dims:
        if config.backend != PYTHON:
            yield Fault(field=f"{where}.dims", what=f"`{one.name}` {NUMBER}", hint=NUMBER_HINT)
        elif one.dims != (1,):
            yield Fault(field=f"{where}.dims", what=f"of `{one.name}`, a number, are not [1]", hint="write [1]")
    elif not fits(full, dims):
        own = dims[1:] if config.max_batch else dims
        batch = ", without the batch's" if config.max_batch else ""
        what = f"{_list(one.model_dims)} of `{one.name}` cannot be {_list(own)}, as {of} has it{batch}"
        hint = f"write {_list(own)}" if own else "write [1], with reshape { shape: [] }"
        yield Fault(field=f"{where}.dims", what=what, hint=hint)


def _describe(tensor: GraphTensor) -> str:
    dims = graph_dims(tensor)
    return f"{OF_ONNX.get(tensor.element, 'an unknown type')} {'of unknown rank' if dims is None else _list(dims)}"


def _list(dims: Sequence[int]) -> str:
    return f"[{', '.join(map(str, dims))}]"
