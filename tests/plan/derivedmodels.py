"""Models that are derived from another, as a checkout has read them."""

from __future__ import annotations

from dataclasses import replace

from buildkit.locks.derivation import Derivation, DeriveGate
from buildkit.locks.model_source import DerivedSource
from buildkit.locks.pins import Model
from buildkit.plan.derivations import make_derived_from
from tests.plan.planfakes import model_file

GATE = DeriveGate(data="path:d", metric="m.py:f", max_loss=0.01, max_size=0.5, max_latency=0.8)


def derive(source: Model, name: str, tool: str, stage: str = "optimiser") -> Model:
    derivation = Derivation(of=source.name, tool=tool, stage=stage, gate=GATE, report=(("size", "0.26"),))
    return replace(
        source,
        name=name,
        source=DerivedSource(of=source.name),
        files=(model_file(f"{name}.onnx"),),
        derivation=derivation,
        origin=make_derived_from(derivation, source, [("onnxruntime", "1.32.0")], {}),
    )
