"""Model files for tests; they are never loaded."""

from __future__ import annotations

import json
import struct


def calling(module: str = "os", name: str = "system", argument: str = "true") -> bytes:
    """Return a pickle that calls ``module.name(argument)`` when it is loaded."""
    text = argument.encode()
    return b"\x80\x04c" + f"{module}\n{name}\n".encode() + b"X" + struct.pack("<I", len(text)) + text + b"\x85R."


def safetensors(**metadata: str) -> bytes:
    """Return a tensor of two floats."""
    header = {"__metadata__": metadata} if metadata else {}
    header |= {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)
