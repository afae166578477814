"""Reads the tensors of a file of PyTorch without PyTorch, and without running what the file says.

``torch.save`` writes a zip with a pickle and a file for each storage. The pickle is read by the standard library, which
is allowed seven names that build tensors and dictionaries; a file that asks for another is refused.
"""

from __future__ import annotations

import collections
import json
import math
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from buildkit.optimiser.scripts import RefusedRequest

_TYPES = {
    "DoubleStorage": ("F64", 8), "FloatStorage": ("F32", 4), "HalfStorage": ("F16", 2), "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8), "IntStorage": ("I32", 4), "ShortStorage": ("I16", 2), "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1), "BoolStorage": ("BOOL", 1),
}  # fmt: skip
_NOT_A_ZIP = "it is no zip of PyTorch; save it again with torch.save of PyTorch 1.6 or newer"


@dataclass(frozen=True)
class Storage:
    """A storage: the type of its elements, as safetensors names it, their bytes, and its file in the zip."""

    dtype: str
    width: int
    key: str


@dataclass(frozen=True)
class StoredTensor:
    """A tensor: where its elements are in a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * self.storage.width


def convert(source: Path, target: Path, options: Mapping[str, Any]) -> None:
    """Write the tensors of ``source`` as safetensors. Raises RefusedRequest for a file that holds more than tensors."""
    try:
        with zipfile.ZipFile(source) as archive:
            tensors = read_tensors(archive, options.get("key", ""))
            write_safetensors(archive, tensors, target)
    except zipfile.BadZipFile:
        raise RefusedRequest("tool", f"{source.name}: {_NOT_A_ZIP}") from None
    except (pickle.UnpicklingError, EOFError, KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise RefusedRequest("tool", f"{source.name} cannot be read: {error}") from error


def read_tensors(archive: zipfile.ZipFile, key: str = "") -> dict[str, StoredTensor]:
    """Return the tensors by name; ``key`` names the dictionary that holds them, if it is not the file itself."""
    names = archive.namelist()
    listed = next((name for name in names if name.endswith("/data.pkl")), "")
    if not listed:
        raise RefusedRequest("tool", _NOT_A_ZIP)
    order = f"{listed.removesuffix('data.pkl')}byteorder"
    if order in names and archive.read(order) != b"little":
        raise RefusedRequest("tool", "its numbers are big-endian, which safetensors are not")
    with archive.open(listed) as stream:
        found: Any = _TensorUnpickler(stream).load()
    for part in filter(None, key.split(".")):
        if not isinstance(found, Mapping) or part not in found:
            raise RefusedRequest("tool", f"it has no `{key}`")
        found = found[part]
    if not isinstance(found, Mapping):
        raise RefusedRequest("tool", f"it holds {type(found).__name__}, and no dictionary of tensors")
    others = [str(name) for name, value in found.items() if not isinstance(value, StoredTensor)]
    if others or not found:
        what = f"holds more than tensors: {', '.join(others[:5])}" if others else "holds no tensor"
        raise RefusedRequest("tool", f"it {what}; name the dictionary of the tensors by `key`")
    return {str(name): value for name, value in found.items()}


class _TensorUnpickler(pickle.Unpickler):
    """Reads a pickle that may build tensors, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuild_parameter
        if (module, name) == ("torch", "Size"):
            return tuple
        if module == "torch" and name in _TYPES:
            return name
        raise RefusedRequest("tool", f"loading it would run code: it asks for {module}.{name}"[:300])

    def persistent_load(self, pid: Any) -> Storage:  # noqa: ANN401
        kind, storage, key, _device, _count = pid
        if kind != "storage" or storage not in _TYPES or not str(key).isalnum():
            raise ValueError("a storage of another kind")
        dtype, width = _TYPES[storage]
        return Storage(dtype, width, str(key))


def _rebuild_tensor(
    storage: Storage, offset: int, shape: Sequence[int], strides: Sequence[int], *_: object
) -> StoredTensor:
    if not isinstance(storage, Storage) or len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
        raise ValueError("a tensor that does not fit its storage")
    return StoredTensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _rebuild_parameter(tensor: StoredTensor, *_: object) -> StoredTensor:
    return tensor


def write_safetensors(archive: zipfile.ZipFile, tensors: Mapping[str, StoredTensor], target: Path) -> None:
    """Write tensors as safetensors does: widest first, then by name, the header padded to eight bytes."""
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].storage.width, item[0]))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.size
        header[name] = {"dtype": tensor.storage.dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    prefix = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
    with target.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            _copy(archive.read(f"{prefix}data/{tensor.storage.key}"), tensor, out)


def _copy(data: bytes, tensor: StoredTensor, out: BinaryIO) -> None:
    width, view = tensor.storage.width, memoryview(data)
    for start, count in _runs(tensor):
        part = view[start * width : (start + count) * width]
        if len(part) != count * width:
            raise ValueError("a tensor that does not fit its storage")
        out.write(part)


def _runs(tensor: StoredTensor) -> Iterator[tuple[int, int]]:
    """Yield begin and length of the runs of elements that lie behind each other."""
    shape, strides = list(tensor.shape), list(tensor.strides)
    if 0 in shape:
        return
    run = 1
    while shape and strides[-1] == run:
        run *= shape.pop()
        strides.pop()
    indices = [0] * len(shape)
    while True:
        yield tensor.offset + sum(i * stride for i, stride in zip(indices, strides, strict=True)), run
        for axis in reversed(range(len(shape))):
            indices[axis] += 1
            if indices[axis] < shape[axis]:
                break
            indices[axis] = 0
        else:
            return
