"""Which files of a wheel are models: by name, or by the first bytes of a pickle or an array.

A wheel may be full of pickles that are only data (Babel has a thousand). One without the name of a model is followed
only if it names what is on the deny-list the way picklers do: whoever wants to hide code in a wheel has easier ways.
"""

from __future__ import annotations

import re
from functools import cache
from mmap import mmap

from buildkit.scan.pickle.lists import denied_names, dotted_prefixes, find_denial

HEAD = 512  # bytes that decide
_NAME = re.compile(
    r"\.(?:pkl|pickle|dill|cloudpickle|joblib|npy|npz|pt|pth|pth\.tar|ckpt|torchscript|nemo|skops|h5|hdf5|"
    r"keras|onnx|tflite|safetensors|gguf|mlmodel)"
    r"(?:\.(?:gz|gzip|bz2|xz|lzma|z|zst|lz4))?\Z",
    re.IGNORECASE,
)
_BINARY = re.compile(rb"\x80[\x02-\x05]")
_TEXT = re.compile(rb"[(\]}]*(?:[ci][A-Za-z_][\w.]*\r?\n[A-Za-z_][\w.]*\r?\n|\((?:dp|lp)\d+\n)")  # protocols 0 and 1
_ARRAY = b"\x93NUMPY"
_NAMED = re.compile(rb"[ci]([A-Za-z_][\w.]*)\r?\n([A-Za-z_][\w.]*)\r?\n")  # GLOBAL and INST
_STRINGS = re.compile(rb"(?:\x8c.|X.\0\0\0)([A-Za-z_][\w.]*)", re.DOTALL)  # what STACK_GLOBAL takes, since protocol 4


def is_model_name(member: str) -> bool:
    """Return whether a file is named as what a loader of models opens."""
    return bool(_NAME.search(member))


def is_pickle_head(head: bytes) -> bool:
    """Return whether a file begins as picklers begin a stream."""
    return bool(_BINARY.match(head) or _TEXT.match(head))


def is_array_head(head: bytes) -> bool:
    """Return whether a file begins as a NumPy array does."""
    return head.startswith(_ARRAY)


def mentions_denied(content: bytes | mmap) -> bool:
    """Return whether a pickle names what is on the deny-list as picklers do."""
    pairs = {(module.decode(), name.decode()) for module, name in _NAMED.findall(content)}
    if any(find_denial(module, name).denied for module, name in pairs):
        return True
    strings = {text.decode() for text in _STRINGS.findall(content)} if content[:1] == b"\x80" and content[1] > 3 else ()
    return any(not _denied_modules().isdisjoint(dotted_prefixes(text)) for text in strings)


@cache
def _denied_modules() -> frozenset[str]:
    return frozenset(module for _, names in denied_names() for module in (*names.exact, *names.trees))
