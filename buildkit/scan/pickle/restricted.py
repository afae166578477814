"""Names that are trusted only as picklers use them, and states that are code.

`Name()` in a list stands for a class that is created without arguments and gets its state afterwards, or for a function
that is only named. Its constructor may open files, or the function may use up all memory; so a call with arguments is a
finding, and so is handing it to anything that could make such a call.
"""

from __future__ import annotations

from buildkit.scan.pickle.lists import allowed_names
from buildkit.scan.pickle.python2_names import python3_name
from buildkit.scan.pickle.values import CallResult, ContainerValue, Global, Value, find_globals

KEEPERS = frozenset({("optuna.samplers._tpe.parzen_estimator", "_ParzenEstimatorParameters")})  # named tuples
FORMULAS = frozenset({"ModelData", "PandasData"})  # of statsmodels.base.data: they evaluate the formula of their state
FORMULA_KEYS = frozenset({"formula", "restore_design_info", "restore_model_spec"})


def is_restricted(symbol: Global, extra: frozenset[str]) -> bool:
    """Return whether a global is trusted only as ``name()``; what the user trusts by its plain name is not."""
    module, name = python3_name(symbol.module, symbol.name)
    listed = f"{name}()" in allowed_names().exact.get(module, ())
    return (listed or f"{module}.{name}()" in extra) and f"{module}.{name}" not in extra


def find_misuse(callee: Value, args: Value, extra: frozenset[str]) -> str:
    """Return why a call uses a restricted global as no pickler does; empty if it does not."""
    if isinstance(callee, Global):
        if is_restricted(callee, extra) and args != ():
            return "it is trusted only without arguments"
        if python3_name(callee.module, callee.name) in KEEPERS or _is_reconstructor(callee, args):
            return ""
    for symbol in find_globals(args):
        if is_restricted(symbol, extra):
            return f"{symbol.path} is trusted only where nothing can call it with arguments"
    return ""


def _is_reconstructor(callee: Global, args: Value) -> bool:
    """Return whether protocol 0 or 1 creates an object, as protocol 2 does without arguments."""
    if (python3_name(callee.module, callee.name)) != ("copyreg", "_reconstructor"):
        return False
    if not isinstance(args, tuple) or len(args) != 3 or not isinstance(args[1], Global):
        return False
    return python3_name(args[1].module, args[1].name) == ("builtins", "object") and args[2] is None


def find_code_in_state(target: Value, state: Value) -> str:
    """Return why a state may be code that setting it evaluates; empty if it is not."""
    if not isinstance(target, CallResult):
        return ""
    made = [target.callee, *target.args[:1]] if isinstance(target.args, tuple) else [target.callee]
    names = [one.name for one in made if isinstance(one, Global) and one.module == "statsmodels.base.data"]
    if FORMULAS.isdisjoint(names):
        return ""
    if not isinstance(state, ContainerValue) or state.kind != "dict" or not state.whole:
        return "what is in it is not known"
    keys = state.kept[::2]
    found = [key for key in keys if not isinstance(key, str) or key in FORMULA_KEYS]
    return f"{found[0]!a} makes it evaluate a formula" if found else ""


def is_listed_attribute(callee: Value, args: Value) -> bool:
    """Return whether a call is getattr of what the allow-list has in full: protocol 4 fetches ZoneInfo._unpickle so."""
    if not isinstance(callee, Global) or python3_name(callee.module, callee.name) != ("builtins", "getattr"):
        return False
    if not isinstance(args, tuple) or len(args) != 2 or not isinstance(args[0], Global) or not isinstance(args[1], str):
        return False
    module, name = python3_name(args[0].module, args[0].name)
    return f"{name}.{args[1]}" in allowed_names().exact.get(module, ())
