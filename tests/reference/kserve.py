"""A client of KServe's protocol, version 2, over HTTP with binary tensors and over gRPC, that does not trust shapes.

https://github.com/kserve/open-inference-protocol, and Triton's extension of binary data.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import grpc
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Arrays = Mapping[str, Any]
KINDS = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip
_TYPES = {kind: name for name, kind in KINDS.items()}


class Refused(Exception):
    """The server refuses a request; the text is its reason."""


def decode(data: bytes, kind: str, shape: list[int]) -> Any:
    """Return a tensor; AssertionError for one whose bytes are not those of its shape, such as none at all."""
    dtype = np.dtype(_TYPES[kind])
    assert len(data) == dtype.itemsize * int(np.prod(shape)), f"{len(data)} bytes for {kind} {shape}"
    return np.frombuffer(data, dtype).reshape(shape)


def ask_http(port: int, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Return status and JSON (or text) of an answer; a body is posted."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        data = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, data, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        return answer.status, json.loads(text) if text[:1] in "{[" and text else text
    finally:
        connection.close()


def infer_http(port: int, model: str, given: Arrays, version: str = "") -> dict[str, Any]:
    """Ask by HTTP, with binary tensors both ways."""
    parts = [value.tobytes() for value in given.values()]
    head = json.dumps({
        "parameters": {"binary_data_output": True},
        "inputs": [
            {"name": name, "shape": list(value.shape), "datatype": KINDS[str(value.dtype)],
             "parameters": {"binary_data_size": len(part)}}
            for (name, value), part in zip(given.items(), parts, strict=True)
        ],
    }).encode()  # fmt: skip
    at = f"/versions/{version}" if version else ""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Inference-Header-Content-Length": str(len(head))}
        connection.request("POST", f"/v2/models/{model}{at}/infer", b"".join((head, *parts)), headers)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise Refused(data.decode())
        size = int(answer.headers["Inference-Header-Content-Length"])
    finally:
        connection.close()
    outputs, at_byte = {}, size
    for one in json.loads(data[:size])["outputs"]:
        length = one["parameters"]["binary_data_size"]
        outputs[one["name"]] = decode(data[at_byte : at_byte + length], one["datatype"], one["shape"])
        at_byte += length
    return outputs


def infer_grpc(port: int, model: str, given: Arrays, version: str = "") -> dict[str, Any]:
    """Ask by gRPC, with raw tensors both ways."""
    request = _message("ModelInferRequest")(model_name=model, model_version=version)
    for name, value in given.items():
        request.inputs.add(name=name, datatype=KINDS[str(value.dtype)], shape=value.shape)
        request.raw_input_contents.append(value.tobytes())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_message("ModelInferResponse").FromString,
        )
        try:
            answer = call(request, timeout=60)
        except grpc.RpcError as error:
            raise Refused(str(error.details())) from None
    assert len(answer.raw_output_contents) == len(answer.outputs)
    pairs = zip(answer.outputs, answer.raw_output_contents, strict=True)
    return {one.name: decode(data, one.datatype, list(one.shape)) for one, data in pairs}


@cache
def _message(name: str) -> Any:
    """Return a message of the protocol: the fields that are used here, with their numbers."""
    tensor = (("name", 1, 9, 1, ""), ("datatype", 2, 9, 1, ""), ("shape", 3, 3, 3, ""))
    messages: dict[str, tuple[tuple[str, int, int, int, str], ...]] = {
        "Tensor": tensor,
        "ModelInferRequest": (
            ("model_name", 1, 9, 1, ""), ("model_version", 2, 9, 1, ""), ("inputs", 5, 11, 3, ".inference.Tensor"),
            ("raw_input_contents", 7, 12, 3, ""),
        ),
        "ModelInferResponse": (("outputs", 5, 11, 3, ".inference.Tensor"), ("raw_output_contents", 6, 12, 3, "")),
    }  # fmt: skip
    file = descriptor_pb2.FileDescriptorProto(name="kserve.proto", package="inference", syntax="proto3")
    for message, fields in messages.items():
        made = file.message_type.add(name=message)
        for field, number, kind, label, of in fields:
            made.field.add(name=field, number=number, type=kind, label=label, type_name=of or None)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}"))
