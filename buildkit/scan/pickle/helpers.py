"""Allowed functions that call what they are handed, give it back, or set state on what they make."""

from __future__ import annotations

from collections.abc import Iterator

from buildkit.scan.pickle.python2_names import python3_name
from buildkit.scan.pickle.values import Global, Value

DEEPEST = 8  # helpers that call helpers
TAGS = ("restore_type_tag", "build_boollist", "build_doublelist", "build_intlist", "build_tensorlist")
GIVES_BACK = frozenset({("numpy", "object_"), *(("torch.jit._pickle", name) for name in TAGS)})  # their first argument
SETS_STATE = frozenset({("torch._tensor", "_rebuild_from_type_v2"), ("torch._utils", "_rebuild_parameter_with_state")})
RANDOM = "numpy.random._pickle"


def name_of(value: Value) -> tuple[str, str]:
    """Return the Python 3 name of a global; empty for other values."""
    return python3_name(value.module, value.name) if isinstance(value, Global) else ("", "")


def find_inner_calls(callee: Global, args: Value) -> Iterator[tuple[Value, Value]]:
    """Yield what an allowed function calls, with the arguments that it passes on."""
    if not isinstance(args, tuple) or not args:
        return
    name = name_of(callee)
    if name == ("torch._tensor", "_rebuild_from_type_v2") and len(args) > 2:
        yield args[0], args[2]
    elif name == ("copyreg", "__newobj__"):
        yield args[0], args[1:]
    elif name == ("copyreg", "__newobj_ex__") and len(args) > 2:
        yield args[0], (*args[1], args[2]) if isinstance(args[1], tuple) else args[1]
    elif name == ("copyreg", "_reconstructor") and len(args) > 2 and name_of(args[1]) != ("builtins", "object"):
        yield args[1], (args[2],)
    elif name in ((RANDOM, "__generator_ctor"), (RANDOM, "__randomstate_ctor")) and len(args) > 1:
        yield args[1], (args[0],)
    elif name == (RANDOM, "__bit_generator_ctor") and isinstance(args[0], Global):
        yield args[0], ()


def find_returned_argument(callee: Value, args: Value) -> Value:
    """Return the argument that an allowed function gives back; None for other functions."""
    return args[0] if isinstance(args, tuple) and args and name_of(callee) in GIVES_BACK else None


def find_set_states(callee: Global, args: Value) -> tuple[Value, ...]:
    """Return the state that an allowed function sets on what it makes."""
    return args[3:4] if isinstance(args, tuple) and name_of(callee) in SETS_STATE else ()
