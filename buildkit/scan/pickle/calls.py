"""Calls whose arguments or result tell more than the name of the function."""

from __future__ import annotations

from buildkit.scan.context import Declared, ScanContext
from buildkit.scan.pickle.helpers import find_returned_argument, name_of
from buildkit.scan.pickle.lists import never_called_names
from buildkit.scan.pickle.nested import LARGEST
from buildkit.scan.pickle.python2_names import python3_name
from buildkit.scan.pickle.values import UNKNOWN, ByteString, CallResult, Global, LongText, Value
from buildkit.scan.source import BytesSource, RangeSource, ScanSource

TEXT_ENCODINGS = frozenset({"latin1", "latin-1", "ascii", "utf-8", "utf8", "iso-8859-1"})
GLOBAL_GETTERS = frozenset({("builtins", "getattr"), ("builtins", "__import__"), ("importlib", "import_module")})
ATTRIBUTE_GETTERS = frozenset({("operator", "attrgetter"), ("_operator", "attrgetter")})
ENCODE = ("_codecs", "encode")
LOAD = ("torch.storage", "_load_from_bytes")
WRAPPER = ("joblib.numpy_pickle", "NumpyArrayWrapper")
SCALARS = frozenset({("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar")})
ARGUMENT_CHECKED = frozenset({ENCODE, LOAD, WRAPPER})  # allowed with certain arguments only


def find_argument_problem(callee: Global, args: Value, context: ScanContext, source: ScanSource) -> str:
    """Return why ``callee`` is not allowed with these arguments; empty if it is."""
    name = python3_name(callee.module, callee.name)
    if not isinstance(args, tuple):
        return "its arguments are not a tuple"
    if name[1] in never_called_names().get(name[0], ()):
        return "it is allowed as a value, but not to be called"
    if name == ENCODE:
        plain = find_encoding(args) and isinstance(args[0], str | LongText)
        return "" if plain else "it decodes something else than text"
    if name == LOAD:
        return find_load_problem(args[0] if len(args) == 1 else UNKNOWN, context, source)
    if name == WRAPPER and args:
        return "joblib makes it without arguments"
    if name in SCALARS and len(args) > 1 and is_computed(args[1]):
        return "it takes bytes"
    return ""


def is_computed(value: Value) -> bool:
    """Return whether ``value`` is an object of the file, and not bytes that protocol 2 wrote as text."""
    if isinstance(value, CallResult):
        return name_of(value.callee) != ENCODE
    return isinstance(value, Global)


def find_encoding(args: tuple[Value, ...]) -> str:
    """Return the encoding that ``_codecs.encode`` uses; empty if no pickler asks for it."""
    encoding = args[1] if len(args) == 2 else "utf-8" if len(args) == 1 else ""
    return encoding if isinstance(encoding, str) and encoding in TEXT_ENCODINGS else ""


def find_load_problem(blob: Value, context: ScanContext, source: ScanSource) -> str:
    """Scan the bytes that PyTorch loads as a file; return why they cannot be scanned, empty if they can."""
    if isinstance(blob, CallResult) and isinstance(blob.args, tuple) and isinstance(blob.callee, Global):
        return scan_encoded_bytes(blob, context, source)
    if not isinstance(blob, ByteString):
        return "it loads a computed file"
    context.descend(f"bytes@{blob.start}", RangeSource(source, blob.start, blob.size), Declared.PICKLE_FILE)
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
    args = call.args if isinstance(call.args, tuple) else ()
    text = args[0] if args else UNKNOWN
    encoding = find_encoding(args)
    if not isinstance(call.callee, Global) or call.callee.path != "_codecs.encode" or not encoding:
        return "it loads a computed file"
    try:
        if isinstance(text, LongText) and text.size <= LARGEST and not text.escaped:
            text = source.read(text.start, text.size).decode("utf-8", "surrogatepass")
        content = text.encode(encoding) if isinstance(text, str) else None
    except UnicodeError:
        content = None
    if content is None:
        return "it loads a text that cannot be encoded"
    context.descend("text", BytesSource(content), Declared.PICKLE_FILE)
    return ""


def infer_result(callee: Value, args: Value) -> Value:
    """Return what a call returns, if that is a global or an argument; else UNKNOWN."""
    if not isinstance(args, tuple):
        return UNKNOWN
    returned = find_returned_argument(callee, args)
    if returned is not None:
        return returned
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
