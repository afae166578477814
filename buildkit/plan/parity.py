"""Compare what two stages put into their images, and how their containers run. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from buildkit.declare.gpu_request import GpuRequest
from buildkit.declare.parity_file import Allowance
from buildkit.declare.stage import Config, Running
from buildkit.plan.compose import Composition
from buildkit.plan.spec import MakeRoot, PackFiles, PackLinks, PackModel, PackWheels, Spec

Facts = Mapping[tuple[str, str], str]  # by sort and name, as in `parity_file.SORTS`
_SHOWN = 12  # digits of a key or a hash
_OWN_LABELS = ("org.opencontainers.image.title", "org.opencontainers.image.description")  # of each stage, always


@dataclass(frozen=True, slots=True, kw_only=True)
class StageDifference:
    """Something that differs: what it is for the first, and for the second; empty where one has none.

    ``allowed`` is the reason for which it is meant, empty if it is not.
    """

    what: str
    name: str
    first: str
    second: str
    allowed: str = ""

    @property
    def change(self) -> str:
        """How the first differs: ``added``, ``removed`` or ``changed``."""
        return "changed" if self.first and self.second else "added" if self.first else "removed"


def describe_composition(
    composition: Composition, running: Running, gpu: GpuRequest | None = None
) -> dict[tuple[str, str], str]:
    """Return everything by which an image and its container can differ from others."""
    facts: dict[tuple[str, str], str] = {}
    for number, spec in enumerate(composition.root):
        facts["root", str(number)] = spec.key.hex[:_SHOWN]
    for spec in composition.specs:
        facts |= _describe_layer(spec)
    facts |= _describe_config(composition.config)
    flags = ((field.name.replace("_", "-"), getattr(running, field.name)) for field in fields(running))
    facts |= {("flag", name): _text(value) for name, value in flags}
    return facts | ({("flag", "gpu"): _format_gpu(gpu)} if gpu else {})


def _format_gpu(gpu: GpuRequest) -> str:
    """Return what a request says besides its defaults; ``count`` in any case."""
    said = ((field.name, getattr(gpu, field.name), field.default) for field in fields(gpu))
    return " ".join(f"{name}={value}" for name, value, usual in said if value != usual or name == "count")


def _describe_layer(spec: Spec) -> dict[tuple[str, str], str]:
    work = spec.work
    if isinstance(work, PackLinks):  # each stage makes them, under a name of its own
        return {("file", path): f"→ {target}" for path, target in work.links}
    facts: dict[tuple[str, str], str] = {} if spec.is_of_root else {("layer", spec.name): spec.key.hex[:_SHOWN]}
    if isinstance(work, MakeRoot):
        facts |= {("system-package", pin.name): pin.version for pin in work.pins}
    elif isinstance(work, PackWheels):
        for wheel in work.wheels:
            digest = f", {wheel.sha256.hex[:_SHOWN]}" if wheel.sha256 else ""
            facts["package", wheel.name] = f"{wheel.version}{digest}"
    elif isinstance(work, PackModel):
        facts["model", work.model.name] = spec.key.hex[:_SHOWN]
    elif isinstance(work, PackFiles):
        for file in work.tree.files:
            path = posixpath.normpath(posixpath.join(work.copy.target, file.path))
            mode = ", executable" if file.executable else ""
            facts["file", path] = f"→ {file.link}" if file.link else f"{file.sha256.hex[:_SHOWN]}{mode}"
    return facts


def _describe_config(config: Config) -> dict[tuple[str, str], str]:
    facts = {
        ("config", field.name.replace("_", "-")): _text(getattr(config, field.name))
        for field in fields(config)
        if field.name not in ("env", "labels")
    }
    facts |= {("label", name): value for name, value in config.labels if name not in _OWN_LABELS}
    return facts | {("variable", name): value for name, value in config.env}


def _text(value: object) -> str:
    """Return a value as a line, empty for none."""
    if isinstance(value, tuple):
        return " ".join("=".join(one) if isinstance(one, tuple) else str(one) for one in value)
    return "" if value is None else str(value)


def compare_facts(first: Facts, second: Facts, allowances: Iterable[Allowance]) -> tuple[StageDifference, ...]:
    """Return every difference, sorted by sort and name, those that are meant with their reason."""
    allowed = tuple(allowances)
    found = []
    for what, name in sorted(first.keys() | second.keys()):
        one, other = first.get((what, name), ""), second.get((what, name), "")
        if one != other:
            difference = StageDifference(what=what, name=name, first=one, second=other)
            why = next((one.why for one in allowed if one.covers(what, name, difference.change)), "")
            found.append(StageDifference(what=what, name=name, first=one, second=other, allowed=why))
    return tuple(found)


def find_idle(differences: Iterable[StageDifference], allowances: Iterable[Allowance]) -> tuple[Allowance, ...]:
    """Return the allowances that nothing needs."""
    present = tuple(differences)
    return tuple(one for one in allowances if not any(one.covers(d.what, d.name, d.change) for d in present))
