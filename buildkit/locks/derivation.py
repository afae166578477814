"""Derived models: what ``[[derive]]`` of a models file asks for, and what a models lock says of one that was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from buildkit.declare.paths import check_target
from buildkit.declare.schema import KeySchema, TableSchema, ValueLocation, suggest_word
from buildkit.digest import canonical_json
from buildkit.errors import DefinitionError, Problem
from buildkit.lazy_dataclass import dataclass
from buildkit.locks.derive_schema import DATA_WORDS, FUNCTION_WORDS, LOSSY_TOOLS, OPTIMISER, OPTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class DeriveGate:
    """What a derived model must hold against its source: ``max_`` values are None where nothing is asked.

    ``data`` and ``metric`` are empty if there is none. ``max_size`` and ``max_latency`` are ratios.
    """

    data: str = ""
    metric: str = ""
    better: str = "higher"
    max_loss: float | None = None
    max_size: float | None = None
    max_latency: float | None = None


Ranges = tuple[tuple[str, tuple[float, float]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivation:
    """How a model is made of another: as ``[[derive]]`` asks for it, and, in a lock, what it turned out to be.

    ``of`` is the name of the source, ``options`` canonical JSON. ``ranges`` are the locked ranges of tensors,
    ``report`` what was found when the model was made, by name.
    """

    of: str
    tool: str
    options: str = "{}"
    stage: str = OPTIMISER
    gate: DeriveGate | None = None
    ranges: Ranges = ()
    report: tuple[tuple[str, str], ...] = ()

    @property
    def asked(self) -> tuple[object, ...]:
        """What a user asked for, without what it turned out to be."""
        return self.of, self.tool, self.options, self.stage, self.gate

    @property
    def settings(self) -> dict[str, Any]:
        """The options of the tool."""
        found: dict[str, Any] = json.loads(self.options)
        return found

    @property
    def scripts(self) -> tuple[str, ...]:
        """The user's functions that it calls, as ``PATH.py:FUNCTION``."""
        places = (self.tool if ".py:" in self.tool else "", self.settings.get("export", ""))
        return tuple(filter(None, (*places, self.gate.metric if self.gate else "")))

    @property
    def data(self) -> str:
        """What the metric is computed over; empty without a metric."""
        return self.gate.data if self.gate else ""

    @property
    def calibration(self) -> str:
        """What static quantisation is calibrated with: data of its own, or the gate's; empty for other tools."""
        return (self.settings.get("calibration") or self.data) if self.tool == "onnx-quantise-static" else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeriveRequest:
    """A model that is derived: its name, how, and its folder in images (empty for the usual one)."""

    name: str
    derivation: Derivation
    target: str = ""


def read_derive_requests(entries: Any, models: Mapping[str, object], place: ValueLocation) -> tuple[DeriveRequest, ...]:  # noqa: ANN401
    """Return the requests of a file's ``[[derive]]`` tables; reports whatever is wrong with them to ``place``."""
    if any(problem.key.startswith("derive[") for problem in place.problems):
        return ()  # what a wrong value leads to would only be noise
    requests, seen = [], set(models)
    for entry in entries:
        if not {"name", "from", "tool"} <= entry.keys():
            continue  # reported
        here = place.at(f"derive {entry['name']}")
        if entry["name"] in seen:
            here.report("is listed twice")
        seen.add(entry["name"])
        check_target(entry.get("target", ""), here.at("target"))
        requests.append(_read_request(entry, here))
    by_name = {request.name: request for request in requests}
    for request in requests:
        _check_source(request, by_name, models, place.at(f"derive {request.name}"))
    return tuple(requests)


def _read_request(entry: dict[str, Any], place: ValueLocation) -> DeriveRequest:
    options = _read_options(entry["tool"], entry.get("options", {}), place.at("options"))
    gate = read_gate(entry["gate"]) if "gate" in entry else None
    derivation = Derivation(
        of=entry["from"],
        tool=entry["tool"],
        options=canonical_json(options),
        stage=entry.get("stage", OPTIMISER),
        gate=gate,
    )
    _check_gate(derivation, place)
    return DeriveRequest(name=entry["name"], derivation=derivation, target=entry.get("target", "").rstrip("/"))


def read_gate(table: Mapping[str, Any]) -> DeriveGate:
    """Return the gate of a table that its schema has read."""
    return DeriveGate(**table)


def _read_options(tool: str, options: dict[str, Any], place: ValueLocation) -> dict[str, Any]:
    if tool not in OPTIONS:
        return options
    schema = TableSchema({name: KeySchema(value, "") for name, value in OPTIONS[tool].items()})
    if tool == "torch-to-onnx" and "export" not in options:
        place.at("export").report("is missing", "name the function that returns (module, arguments)")
    schema.read(options, place)
    return options


def _check_gate(derivation: Derivation, place: ValueLocation) -> None:
    gate, at = derivation.gate or DeriveGate(), place.at("gate")
    if bool(gate.data) != bool(gate.metric):
        there, lacking = ("metric", "data") if gate.metric else ("data", "metric")
        at.at(lacking).report(
            f"is missing: `{there}` needs it", f"name {'what' if lacking == 'data' else 'how'} to measure"
        )
    elif not gate.metric and (gate.max_loss is not None or gate.max_latency is not None):
        asked = "max-loss" if gate.max_loss is not None else "max-latency"
        at.at(asked).report("needs `data` and `metric`", "the metric also feeds the model when its time is measured")
    elif derivation.tool in LOSSY_TOOLS and (not gate.metric or gate.max_loss is None):
        at.report(f"{derivation.tool} may ruin a model: it needs `data`, `metric` and `max-loss`")


def _check_source(
    request: DeriveRequest, others: Mapping[str, DeriveRequest], models: Mapping[str, object], place: ValueLocation
) -> None:
    known = sorted({*others, *models})
    derivation = request.derivation
    if derivation.of not in known:
        place.at("from").report(f"there is no model `{derivation.of}`", suggest_word(derivation.of, known))
        return
    for data in (derivation.data, derivation.calibration):
        if data and not data.startswith("path:") and data not in models:
            place.at("gate.data").report(f"there is no model `{data}`", "write path:FOLDER for files of the repository")
    chain = [request.name]
    while (following := others.get(chain[-1])) is not None:
        chain.append(following.derivation.of)
        if chain[-1] in chain[:-1]:
            if chain[-1] == request.name:
                place.at("from").report(f"is a circle: {' → '.join(reversed(chain))}")
            return


def sort_requests(requests: tuple[DeriveRequest, ...]) -> tuple[DeriveRequest, ...]:
    """Return the requests with each after the one that it is made of; there is no circle."""
    by_name = {request.name: request for request in requests}
    ordered: dict[str, DeriveRequest] = {}

    def add(request: DeriveRequest) -> None:
        if request.derivation.of in by_name:
            add(by_name[request.derivation.of])
        ordered[request.name] = request

    for request in requests:
        add(request)
    return tuple(ordered.values())


def read_derivation(of: str, table: Mapping[str, Any]) -> Derivation:
    """Return the derivation of a lock's table ``[model.derived]``, which its schema has read."""
    return Derivation(
        of=of,
        tool=table["tool"],
        options=canonical_json(table.get("options", {})),
        stage=table["stage"],
        gate=read_gate(table["gate"]) if "gate" in table else None,
        ranges=tuple((name, (float(low), float(high))) for name, (low, high) in table.get("ranges", ())),
        report=table.get("report", ()),
    )


def derivation_table(derivation: Derivation) -> dict[str, Any]:
    """Return the table ``[model.derived]`` of a lock."""
    table: dict[str, Any] = {"tool": derivation.tool, "stage": derivation.stage}
    if derivation.settings:
        table["options"] = derivation.settings
    if derivation.gate:
        table["gate"] = gate_table(derivation.gate)
    if derivation.report:
        table["report"] = dict(derivation.report)
    if derivation.ranges:
        table["ranges"] = {name: list(pair) for name, pair in derivation.ranges}
    return table


def gate_table(gate: DeriveGate) -> dict[str, Any]:
    """Return a gate as a table of TOML or JSON, without what is usual."""
    values = {
        "data": gate.data, "metric": gate.metric, "better": gate.better if gate.better != "higher" else "",
        "max-loss": gate.max_loss, "max-size": gate.max_size, "max-latency": gate.max_latency,
    }  # fmt: skip
    return {name: value for name, value in values.items() if value not in ("", None)}


def check_gate_words(gate: DeriveGate) -> None:
    """Raise DefinitionError for data or a metric of a command line that a models file could not have."""
    problems: list[Problem] = []
    place = ValueLocation("the command line", problems)
    DATA_WORDS.read(gate.data, place.at("--data"))
    FUNCTION_WORDS.read(gate.metric, place.at("--metric"))
    if problems:
        raise DefinitionError.of(problems)


def script_path(place: str) -> str:
    """Return the path of ``PATH.py:FUNCTION``."""
    return place.rpartition(":")[0]
