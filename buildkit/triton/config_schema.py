"""The types of ``config.pbtxt`` for the library of protocol buffers, made from the table ``model_config.txt``.

Text is all that is read and written, so the numbers of fields on the wire are of no account.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from buildkit.errors import MissingTool

PACKAGE = "inference"


class ConfigTextError(Exception):
    """A text is no configuration; its words are the library's: ``LINE:COLUMN : …``."""


def parse_config_text(text: str) -> Any:  # noqa: ANN401 - a message of the library
    """Return the message that a text describes. Raises ConfigTextError, and MissingTool without the library."""
    message = config_message()()
    from google.protobuf import text_format

    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ConfigTextError(str(error)) from None
    except RecursionError:
        raise ConfigTextError("is nested too deep") from None
    return message


_SCALARS = {"double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "uint32": 13}
_MESSAGE, _ENUM, _ONE, _MANY = 11, 14, 1, 3


@cache
def config_message() -> Any:  # noqa: ANN401 - a class that the library makes
    """Return the class of configurations. Raises MissingTool without the library of protocol buffers."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError:
        raise MissingTool(
            "a config.pbtxt that is written by hand is checked by the library `protobuf`, which is not installed",
            hint="run: pip install 'xoe-buildkit[triton]', or leave `config` out: then it is generated",
        ) from None
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package=PACKAGE, syntax="proto3")
    text = (files(__package__) / "model_config.txt").read_text("utf-8")
    for block in text.split("\n\n")[1:]:  # the first is a comment
        head, *lines = block.splitlines()
        kind, _, name = head.partition(" ")
        if kind == "enum":
            enum = file.enum_type.add(name=name)
            for number, value in enumerate(" ".join(lines).split()):
                enum.value.add(name=value, number=number)
        else:
            _add_message(file, name, lines)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.ModelConfig"))


def _add_message(file: Any, name: str, lines: list[str]) -> None:  # noqa: ANN401
    message = file.message_type.add(name=name)
    enums = {enum.name for enum in file.enum_type}
    choices: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        declared, _, choice = line.strip().partition(" | ")
        field_name, kind = declared.split()
        key, mapped, value = kind.partition("=>")
        many = kind.startswith("*") or bool(mapped)
        field = message.field.add(name=field_name, number=number, label=_MANY if many else _ONE)
        if mapped:
            entry = _add_map(message, field_name, (key, value), enums)
            field.type, field.type_name = _MESSAGE, f".{PACKAGE}.{name}.{entry}"
        else:
            _set_type(field, kind.removeprefix("*"), enums)
        if choice:
            if choice not in choices:
                choices[choice] = len(message.oneof_decl)
                message.oneof_decl.add(name=choice)
            field.oneof_index = choices[choice]


def _add_map(message: Any, name: str, pair: tuple[str, str], enums: set[str]) -> str:  # noqa: ANN401
    entry = message.nested_type.add(name="".join(part.capitalize() for part in name.split("_")) + "Entry")
    entry.options.map_entry = True
    for number, (part, kind) in enumerate(zip(("key", "value"), pair, strict=True), 1):
        _set_type(entry.field.add(name=part, number=number, label=_ONE), kind, enums)
    return str(entry.name)


def _set_type(field: Any, kind: str, enums: set[str]) -> None:  # noqa: ANN401
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = (_ENUM if kind in enums else _MESSAGE), f".{PACKAGE}.{kind}"
