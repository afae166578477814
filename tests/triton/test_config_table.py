"""Our table of the fields of a configuration, held against the types that Triton's own client brings."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from buildkit.triton.config_schema import config_message

_MESSAGE, _ENUM = 11, 14
CLIENT = "tritonclient==2.73.0"


def describe(message: Any, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """Fields by name, whatever messages are named: type, whether it repeats, choice, and what is below."""
    found = {}
    for field in message.fields:
        choice = field.containing_oneof.name if field.containing_oneof else ""
        below: Any = None
        if field.type == _MESSAGE and field.message_type.full_name not in seen:
            below = describe(field.message_type, (*seen, message.full_name))
        elif field.type == _ENUM:
            below = sorted(field.enum_type.values_by_name)
        found[field.name] = (field.type, field.is_repeated, choice, below)
    return found


@pytest.mark.network
def test_the_table_has_the_fields_types_and_choices_of_tritons_own_description(tmp_path: Path) -> None:
    argv = (
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        f"--dest={tmp_path}",
        CLIENT,
    )
    subprocess.run(argv, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read("tritonclient/grpc/model_config_pb2.py").decode()
    literal = re.search(r"AddSerializedFile\((b'.*?')\)\n", text, re.DOTALL)
    assert literal  # read, not run: it needs another release of the library
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(ast.literal_eval(literal[1])))
    theirs = describe(pool.FindMessageTypeByName("inference.ModelConfig"))
    ours = describe(config_message().DESCRIPTOR)
    assert ours == theirs
