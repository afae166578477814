"""ONNX Runtime in Triton's Python backend: runs the ``model.onnx`` that lies beside this file.

https://github.com/triton-inference-server/python_backend#usage. Tensors go in and out by DLPack: with NumPy 2, the
backend's own conversion gives tensors of the right shape without bytes (python_backend#384).
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

_THREADS = "intra_op_thread_count"  # the parameter of Triton's own backend for ONNX models
_USED = ctypes.c_char_p(b"used_dltensor")  # of the protocol of DLPack; the capsule keeps the address
_CUDA = "CUDAExecutionProvider"
Arrays = list[Any]


class TritonPythonModel:
    """An instance of a version; Triton calls its methods, one at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model. Raises an error, with which the version fails, where a GPU was asked for and is not there."""
        config = json.loads(args["model_config"])
        self._batched = config["max_batch_size"] > 0
        self._shapes = {one["name"]: [int(dim) for dim in one["dims"]] for one in config["output"] if "reshape" in one}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _threads(config)
        on_gpu = args["model_instance_kind"] == "GPU"
        providers: Arrays = [(_CUDA, {"device_id": args["model_instance_device_id"]})] if on_gpu else []
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._session = onnxruntime.InferenceSession(path, options, providers=[*providers, "CPUExecutionProvider"])
        if on_gpu and self._session.get_providers()[0] != _CUDA:
            raise pb_utils.TritonModelException("ONNX Runtime has no CUDA provider here: it would run on the CPU")
        self._inputs = [(one.name, len(one.shape)) for one in self._session.get_inputs()]

    def execute(self, requests: Arrays) -> Arrays:
        """Return a response to each request; those of one shape are run together."""
        responses: Arrays = [None] * len(requests)
        for numbers in self._groups(requests):
            chosen = [requests[number] for number in numbers]
            for number, response in zip(numbers, self._answer(chosen), strict=True):
                responses[number] = response
        return responses

    def _groups(self, requests: Arrays) -> Iterator[list[int]]:
        groups: dict[Any, list[int]] = {}
        for number, request in enumerate(requests):
            shapes = tuple((tensor.name(), tuple(tensor.shape()[1:])) for tensor in request.inputs())
            names = tuple(sorted(request.requested_output_names()))
            groups.setdefault((shapes, names) if self._batched else number, []).append(number)
        yield from groups.values()

    def _answer(self, requests: Arrays) -> Arrays:
        try:
            given = [self._read(request) for request in requests]
            sizes = [len(next(iter(one.values()))) if self._batched else 0 for one in given]
            together = (
                {name: np.concatenate([one[name] for one in given]) for name in given[0]} if given[1:] else given[0]
            )
            names = sorted(requests[0].requested_output_names())
            results = dict(zip(names, self._session.run(names, together), strict=True))
            if len(given) > 1 and any(len(one) != sum(sizes) for one in results.values()):
                raise ValueError("an output has another batch than the inputs")
        except Exception as error:  # noqa: BLE001 - whatever the model says of a request belongs into its answer
            if len(requests) > 1:  # one of them must not fail the others
                return [response for request in requests for response in self._answer([request])]
            return [pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))]
        if len(requests) == 1:
            return [self._respond(results)]
        cuts = np.cumsum(sizes)[:-1]
        parts = {name: np.split(one, cuts) for name, one in results.items()}
        return [self._respond({name: part[number] for name, part in parts.items()}) for number in range(len(sizes))]

    def _read(self, request: Any) -> dict[str, Any]:  # noqa: ANN401 - a class of the server
        arrays = {}
        for name, rank in self._inputs:
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is None:
                raise ValueError(f"the input `{name}` is missing")
            array = np.from_dlpack(tensor)
            arrays[name] = array.reshape(array.shape[:rank]) if rank < array.ndim else array
        return arrays

    def _respond(self, results: dict[str, Any]) -> Any:  # noqa: ANN401
        tensors = []
        for name, result in results.items():
            value = result
            if name in self._shapes:
                value = value.reshape([*value.shape[:1], *self._shapes[name]] if self._batched else self._shapes[name])
            elif value.ndim == 0:
                value = value.reshape(1)
            tensors.append(_hand_over(name, np.ascontiguousarray(value)))
        return pb_utils.InferenceResponse(output_tensors=tensors)


def _hand_over(name: str, value: Any) -> Any:  # noqa: ANN401
    """Return a tensor with the bytes of an array, and say so to the array in the words that NumPy knows.

    The backend renames the capsule, too, but to a name of its own: NumPy would complain in the log of each answer.
    """
    capsule = value.__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    ctypes.pythonapi.PyCapsule_SetName(ctypes.py_object(capsule), _USED)
    return tensor


def _threads(config: dict[str, Any]) -> int:
    """Return the threads of an instance: as said, or its share of the CPUs that the container may use."""
    said = config.get("parameters", {}).get(_THREADS, {}).get("string_value")
    if said:
        return int(said)
    instances = sum(max(1, group.get("count", 1)) for group in config.get("instance_group", [])) or 1
    return max(1, int(_cpus() / instances))


def _cpus() -> float:
    """Return the CPUs of the container, by the limits of its cgroup (v2, else v1)."""
    quota = period = "max"
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
    except (OSError, ValueError):
        try:
            folder = Path("/sys/fs/cgroup/cpu")
            quota, period = ((folder / f"cpu.cfs_{one}_us").read_text("ascii").strip() for one in ("quota", "period"))
        except OSError:
            pass
    there = float(len(os.sched_getaffinity(0)))
    return min(there, int(quota) / int(period)) if quota.isdecimal() else there
