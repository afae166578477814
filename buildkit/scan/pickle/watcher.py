"""Check what a pickle does against the lists, and report each thing once."""

from __future__ import annotations

from dataclasses import field

from buildkit.findings import Rule, Severity
from buildkit.lazy_dataclass import dataclass
from buildkit.scan.context import ScanContext
from buildkit.scan.pickle import rules
from buildkit.scan.pickle.calls import ARGUMENT_CHECKED, find_argument_problem, find_loaded_constant, infer_result
from buildkit.scan.pickle.dtypes import find_type_problem
from buildkit.scan.pickle.exhaustion import Spending
from buildkit.scan.pickle.helpers import DEEPEST, find_inner_calls, find_set_states
from buildkit.scan.pickle.joblib import ScanStream, follow_array
from buildkit.scan.pickle.legacy import TorchStorages
from buildkit.scan.pickle.lists import Standing, classify
from buildkit.scan.pickle.machine import PickleMachine
from buildkit.scan.pickle.nested import ConstantScanner
from buildkit.scan.pickle.python2_names import python3_name
from buildkit.scan.pickle.restricted import find_code_in_state, find_misuse, is_listed_attribute
from buildkit.scan.pickle.values import (
    UNKNOWN,
    ByteString,
    CallResult,
    ContainerValue,
    Global,
    LongText,
    Value,
    find_globals,
    format_value,
)
from buildkit.scan.source import ScanSource

MOST = 1000  # findings of a kind in one stream; more would tell nothing new
ATTRIBUTE_BAGS = frozenset({"types.SimpleNamespace", "argparse.Namespace"})


@dataclass(slots=True)
class GlobalUse:
    """The strongest use of one global in the stream."""

    offset: int
    standing: Standing
    how: str = "imports"
    detail: str = ""


@dataclass(slots=True)
class PickleWatcher:
    """The watcher of one stream of ``source``; call ``report`` when the stream has ended, even if it broke."""

    context: ScanContext
    source: ScanSource
    scan_stream: ScanStream
    uses: dict[tuple[str, str], GlobalUse] = field(default_factory=dict)
    notes: dict[tuple[str, str], tuple[Rule, str, int, Severity | None]] = field(default_factory=dict)
    standings: dict[tuple[str, str, bool], Standing] = field(default_factory=dict)
    storages: TorchStorages = field(default_factory=TorchStorages)
    nested_pickles: dict[int | str, int] = field(default_factory=dict)
    spending: Spending = field(default_factory=Spending)
    helpers: int = 0
    overflowed: bool = False
    attributes_only: bool = False  # getattr was called for what the allow-list has

    def standing(self, symbol: Global) -> Standing:
        """Rate a global; those that a stream names often are rated once."""
        key = symbol.module, symbol.name, symbol.renamed
        known = self.standings.get(key)
        if known is None:
            known = self.rate(symbol)
            if len(self.standings) < MOST:
                self.standings[key] = known
        return known

    def rate(self, symbol: Global) -> Standing:
        """Rate a global under its Python 3 name, and under its own where unpicklers do not map it."""
        standing = classify(*python3_name(symbol.module, symbol.name), self.context.allowed)
        if standing is Standing.ALLOWED and not symbol.renamed:
            return classify(symbol.module, symbol.name, self.context.allowed)
        return standing

    def is_checked(self, symbol: Global) -> bool:
        """Return whether a global is allowed with certain arguments only."""
        name = python3_name(symbol.module, symbol.name)
        return name in ARGUMENT_CHECKED and self.standing(symbol) is Standing.ALLOWED

    def note(self, rule: Rule, what: str, offset: int, severity: Severity | None = None) -> None:
        """Record a finding that is not about the rating of a global."""
        if len(self.notes) < MOST:
            self.notes.setdefault((rule.id, what), (rule, what, offset, severity))
        else:
            self.overflowed = True

    def imported(self, symbol: Global) -> None:
        """Implement ``Watcher``."""
        key = python3_name(symbol.module, symbol.name)
        if key in self.uses:
            return
        standing = self.standing(symbol)
        if standing is not Standing.ALLOWED:
            if len(self.uses) < MOST:
                self.uses[key] = GlobalUse(symbol.offset, standing)
            else:
                self.overflowed = True

    def unresolved(self, module: Value, name: Value, offset: int) -> None:
        """Implement ``Watcher``."""
        self.note(
            rules.UNRESOLVED,
            f"imports {format_value(name)} from {format_value(module)}: names that are not constants",
            offset,
        )

    def ambiguous(self, why: str, offset: int) -> None:
        """Implement ``Watcher``."""
        self.note(rules.AMBIGUOUS, f"{why} at byte {offset}", offset)

    def extension(self, code: int, offset: int) -> None:
        """Implement ``Watcher``."""
        self.note(rules.EXTENSION, f"imports number {code} of the extension registry", offset)

    def note_use(self, symbol: Global, how: str, detail: str) -> None:
        """Record that a global is called, or passed to something that is."""
        self.imported(symbol)
        known = self.uses.get(python3_name(symbol.module, symbol.name))
        if known and (known.how != "calls" or how == "calls"):
            known.how, known.detail = how, (known.detail if known.how == how else "") or detail

    def note_handover(self, value: Value, receiver: Value, offset: int) -> None:
        """Record the globals that are passed to something that may call them: to ``receiver``, or as state for None."""
        for symbol in find_globals(value):
            if self.standing(symbol) is not Standing.ALLOWED:
                where = "as state" if receiver is None else f"to {format_value(receiver)}"
                self.note_use(symbol, "hands over", f"{symbol.path} {where}")
        if isinstance(value, Global):
            self.gathered(value, offset)

    def called(self, callee: Value, args: Value, offset: int) -> Value:
        """Implement ``Watcher``."""
        if is_listed_attribute(callee, args):
            self.attributes_only = True
            return infer_result(callee, args)
        if isinstance(callee, Global):
            if self.standing(callee) is Standing.ALLOWED:
                self.check_call(callee, args, offset)
            else:
                self.note_use(callee, "calls", f"{callee.path}{format_value(args)}")
        elif callee is not UNKNOWN:
            self.note(rules.COMPUTED_CALL, f"calls {format_value(callee)} with {format_value(args)}", offset)
        if misuse := find_misuse(callee, args, self.context.allowed):
            self.note(rules.ODD_ARGUMENTS, f"calls {format_value(callee)}{format_value(args)}: {misuse}", offset)
        self.note_handover(args, callee, offset)
        return infer_result(callee, args)

    def check_call(self, callee: Global, args: Value, offset: int) -> None:
        """Check a call of an allowed global, and the calls that it makes itself."""
        trouble = find_argument_problem(callee, args, self.context, self.source)
        self.nested_pickles.pop(find_loaded_constant(callee, args), 0)
        if trouble:
            self.note(rules.ODD_ARGUMENTS, f"calls {callee.path}{format_value(args)}: {trouble}", offset)
        excess = self.spending.call(python3_name(callee.module, callee.name), args)
        if excess:
            self.note(rules.EXHAUSTS, f"calls {callee.path}{format_value(args)}: {excess}", offset)
        for state in find_set_states(callee, args):
            self.check_state(CallResult(callee, args), state, offset)
        for inner, inner_args in find_inner_calls(callee, args):
            self.check_inner_call(inner, inner_args, offset)

    def check_inner_call(self, callee: Value, args: Value, offset: int) -> None:
        """Check a call that an allowed function makes."""
        if self.helpers >= DEEPEST:
            self.note(rules.COMPUTED_CALL, f"calls {format_value(callee)} through too many helpers", offset)
            return
        self.helpers += 1
        result = self.called(callee, args, offset)
        self.helpers -= 1
        if isinstance(result, Global):
            self.note(rules.ALTERS, f"hands {result.path} to a function that sets state", offset)

    def built(self, machine: PickleMachine, target: Value, state: Value, offset: int) -> None:
        """Implement ``Watcher``."""
        self.note_handover(state, None, offset)
        if isinstance(target, Global):
            self.note(rules.ALTERS, f"sets state of {target.path} itself", offset)
            self.note_use(target, "hands over", f"{target.path} to a change of its state")
            return
        self.check_state(target, state, offset)
        if isinstance(target, CallResult):
            target.state = state
            target.builds += 1
            if problem := find_type_problem(target):
                self.note(rules.FALSE_TYPE, f"sets the state of {format_value(target)}: {problem}", offset)
            follow_array(machine, self.context, self.source, target, self.scan_stream)

    def check_state(self, target: Value, state: Value, offset: int) -> None:
        """Report attributes that a state must not set, or whose names are computed, and states that are code."""
        if why := find_code_in_state(target, state):
            self.note(rules.CODE_STATE, f"sets the state of {format_value(target)}: {why}", offset)
        for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
            if isinstance(part, ContainerValue) and (part.special or part.computed):
                names = ", ".join(part.special) or "attributes with computed names"
                self.note(rules.SPECIAL_STATE, f"sets {names} of {format_value(target)}", offset)

    def gathered(self, symbol: Global, offset: int) -> None:
        """Implement ``Watcher``: whatever calls it later is not seen, nor what it is called with."""
        self.note_use(symbol, "hands over", "")
        if self.is_checked(symbol):
            self.note(rules.ODD_ARGUMENTS, f"hands over {symbol.path}: its arguments cannot be checked", offset)

    def filled(self, target: Value, values: list[Value], offset: int) -> None:
        """Implement ``Watcher``: a pickler writes entries before the state, whose methods would take the entries."""
        if isinstance(target, Global):
            self.note(rules.ALTERS, f"puts entries into {target.path} itself", offset)
        elif isinstance(target, CallResult) and (target.builds or find_attribute_bag(target)):
            what = (
                f"puts {format_value(tuple(values))} into {format_value(target)}, whose methods the file may have set"
            )
            self.note(rules.COMPUTED_CALL, what, offset)

    def hashed(self, keys: list[Value], offset: int) -> None:
        """Implement ``Watcher``."""
        if any(self.spending.expands(key) for key in keys):
            self.note(rules.EXHAUSTS, "hashes a tuple whose parts are shared too often to ever finish", offset)

    def persistent(self, key: Value, offset: int) -> Value:
        """Implement ``Watcher``: PyTorch's legacy format also uses the classes of layers as ids."""
        if isinstance(key, Global):
            self.gathered(key, offset)
        if isinstance(key, tuple) and len(key) > 1 and key[0] == "module":
            return key[1]
        if not self.storages.take(key):
            self.note(rules.ODD_ID, f"the persistent id {format_value(key)} is not PyTorch's", offset)
        return CallResult(UNKNOWN, (key,))

    def constant(self, value: ByteString | LongText | str, offset: int) -> None:
        """Implement ``Watcher``."""
        kind = ConstantScanner(self.context, self.source).scan(value, offset)
        if kind == "a pickle" and len(self.nested_pickles) < MOST:
            self.nested_pickles[value if isinstance(value, str) else value.start] = offset

    def report(self) -> None:
        """Report the findings to the context."""
        for (module, name), use in self.uses.items():
            if self.attributes_only and (module, name) == ("builtins", "getattr") and use.how == "imports":
                continue
            rule, severity = classify_use(use)
            path = f"{module}.{name}" if name else module
            what = f"{use.how} {use.detail or path}"
            if use.how != "imports" and path not in use.detail:
                what += f" (in Python 3: {path})"
            self.context.find(rule, what, offset=use.offset, severity=severity)
        for rule, what, offset, severity in self.notes.values():
            self.context.find(rule, what, offset=offset, severity=severity)
        for offset in self.nested_pickles.values():
            self.context.find(rules.NESTED, "a constant is a pickle", offset=offset)
        if self.overflowed:
            self.context.gap(f"more than {MOST} findings are in one pickle")


def classify_use(use: GlobalUse) -> tuple[Rule, Severity | None]:
    """Return rule and severity for what happens to a global that is not allowed."""
    if use.standing is Standing.CRITICAL and use.how != "imports":
        return rules.RUNS_CODE, None
    if use.standing.denied:
        return rules.DANGEROUS, None
    return rules.UNKNOWN_GLOBAL, Severity.HIGH if use.how == "calls" else None


def find_attribute_bag(target: CallResult) -> bool:
    """Return whether an object's methods can be attributes that its constructor took from the file."""
    return isinstance(target.callee, Global) and target.callee.path in ATTRIBUTE_BAGS
