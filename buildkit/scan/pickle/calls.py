"""Calls whose arguments or result tell more than the name of the function."""

from __future__ import annotations

from buildkit.scan.context import ScanContext
from buildkit.scan.pickle.nested import LARGEST
from buildkit.scan.pickle.python2_names import python3_name
from buildkit.scan.pickle.values import UNKNOWN, ByteString, CallResult, Global, LongText, Value
from buildkit.scan.source import BytesSource, RangeSource, ScanSource

TEXT_ENCODINGS = frozenset({"latin1", "latin-1", "ascii", "utf-8", "utf8", "iso-8859-1"})
GLOBAL_GETTERS = frozenset({("builtins", "getattr"), ("builtins", "__import__"), ("importlib", "import_module")})
ATTRIBUTE_GETTERS = frozenset({("operator", "attrgetter"), ("_operator", "attrgetter")})
LARGEST_ALLOCATION = 2**30
ARGUMENT_CHECKED = frozenset(
    {("_codecs", "encode"), ("torch.storage", "_load_from_bytes")}
)  # allowed with certain arguments only


def find_argument_problem(callee: Global, args: Value, context: ScanContext, source: ScanSource) -> str:
    """Return why ``callee`` is not allowed with these arguments; empty if it is."""
    name = python3_name(callee.module, callee.name)
    arguments = args if isinstance(args, tuple) else (UNKNOWN,)
    if name == ("_codecs", "encode"):
        plain = len(arguments) == 1 or (len(arguments) == 2 and arguments[1] in TEXT_ENCODINGS)
        return "" if plain and isinstance(arguments[0], str | LongText) else "it decodes something else than text"
    if name == ("torch.storage", "_load_from_bytes"):
        blob = arguments[0] if len(arguments) == 1 else UNKNOWN
        if isinstance(blob, CallResult) and isinstance(blob.args, tuple) and isinstance(blob.callee, Global):
            return scan_encoded_bytes(blob, context, source)
        if not isinstance(blob, ByteString):
            return "it loads a computed file"
        context.descend(f"bytes@{blob.start}", RangeSource(source, blob.start, blob.size))
        return ""
    if name[0] == "builtins" and name[1] in ("bytearray", "bytes") and arguments:
        return (
            "it allocates more than a gibibyte"
            if isinstance(arguments[0], int) and arguments[0] > LARGEST_ALLOCATION
            else ""
        )
    return ""


def find_loaded_constant(callee: Global, args: Value) -> int | str:
    """Return the constant that an allowed function loads: a short text itself, else its offset; empty for none."""
    if callee.path != "torch.storage._load_from_bytes" or not isinstance(args, tuple) or not args:
        return ""
    constant = (
        args[0].args[0]
        if isinstance(args[0], CallResult) and isinstance(args[0].args, tuple) and args[0].args
        else args[0]
    )
    if isinstance(constant, ByteString | LongText):
        return constant.start
    return constant if isinstance(constant, str) else ""


def scan_encoded_bytes(call: CallResult, context: ScanContext, source: ScanSource) -> str:
    """Scan bytes that protocol 2 wrote as text; return why they cannot be scanned, empty if they can."""
    name = call.callee.path if isinstance(call.callee, Global) else ""
    text = call.args[0] if isinstance(call.args, tuple) and call.args else UNKNOWN
    if isinstance(text, LongText) and text.size <= LARGEST:
        text = source.read(text.start, text.size).decode("utf-8", "replace")
    if name != "_codecs.encode" or not isinstance(text, str):
        return "it loads a computed file"
    context.descend("text", BytesSource(text.encode("latin-1", "replace")))
    return ""


def infer_result(callee: Value, args: Value) -> Value:
    """Return the global that a call returns, if it can be inferred; else UNKNOWN."""
    if not isinstance(args, tuple):
        return UNKNOWN
    if isinstance(callee, Global):
        name = python3_name(callee.module, callee.name)
        if name == ("builtins", "getattr") and len(args) >= 2 and isinstance(args[1], str):
            return infer_attribute(args[0], args[1])
        if name in GLOBAL_GETTERS and args and isinstance(args[0], str):
            return Global(args[0], "", callee.offset)
    if isinstance(callee, CallResult) and isinstance(callee.callee, Global):
        getter = python3_name(callee.callee.module, callee.callee.name)
        known = callee.args
        if getter in ATTRIBUTE_GETTERS and isinstance(known, tuple) and len(known) == 1 and isinstance(known[0], str):
            return infer_attribute(args[0], known[0]) if args else UNKNOWN
    return UNKNOWN


def infer_attribute(target: Value, name: str) -> Value:
    """Return the global ``target.name``; UNKNOWN if ``target`` is not a global."""
    if not isinstance(target, Global):
        return UNKNOWN
    return Global(target.module, f"{target.name}.{name}" if target.name else name, target.offset)
