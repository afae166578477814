"""Explain why layers of an image will be rebuilt, or when and why they were built last.

Nothing is built or changed, and no network is used: the contents of a remote cache are unknown here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, TextIO

from buildkit.build.planner import Planner
from buildkit.digest import DiffId
from buildkit.errors import DefinitionError
from buildkit.inspection.derived_layer import DerivedModel, describe_derived, find_derived
from buildkit.oci.blob import LayerResult
from buildkit.plan.explain.causes import Cause, format_cause
from buildkit.plan.plan import LayerSource, PlannedLayer
from buildkit.report.text import format_date, sanitize_line
from buildkit.store.build_history import BuiltRecord, find_built

_SHORTEST = 4  # digits of a key that identify a layer
_MOST = 5  # suggested layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The action that a build would take for one layer, and its reasons.
    ``causes`` are the reasons to build it. ``again`` is set if it is delivered although local storage has it; ``below``
    is the layer whose change is the reason. ``tool`` is set if it is needed to build the image, but no part of it.
    """

    entry: PlannedLayer
    causes: tuple[Cause, ...] = ()
    built: BuiltRecord | None = None
    derived: DerivedModel | None = None
    again: bool = False
    below: str = ""
    tool: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the fields that docs/cache.md describes."""
        spec, built = self.entry.spec, self.built
        return {
            "name": spec.name,
            "kind": str(spec.kind),
            "key": str(spec.key),
            "source": str(self.entry.source),
            "tool": self.tool,
            "causes": [cause.as_json() for cause in self.causes],
            "again": self.again,
            "below": self.below,
            "built": {"at": built.at, "stage": built.stage, "why": built.why} if built else None,
            **({"derived": self.derived.as_json()} if self.derived else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The explanation of an image: of all its layers, lowest first, or of the requested ones.

    Layers are imported into local storage, or unpacked into the image store (``unpacks``).
    """

    stage: str
    image: str
    layers: tuple[Explained, ...]
    unpacks: bool = False

    @property
    def delivered(self) -> str:
        """What happens to a layer that is delivered."""
        return "unpacked" if self.unpacks else "imported"

    def as_json(self) -> dict[str, Any]:
        """Return ``{"stage", "image", "layers"}``."""
        return {"stage": self.stage, "image": self.image, "layers": [layer.as_json() for layer in self.layers]}


def explain_stage(planner: Planner, stage: str, layer: str = "") -> Explanation:
    """Explain all layers of a stage, or one: by its name, a unique end of its name, or digits of its key."""
    planned, unpacks = planner.plan(stage), planner.context.image_store is not None
    stored = () if planned.stored is None or unpacks else planned.stored.diff_ids
    explained = list(_explain_entries(planned.plan.entries, set(stored)))
    explained += [
        Explained(entry=e, tool=True) for e in planner.plan_tools(planned.plan) if e.source is LayerSource.BUILT
    ]
    chosen = _choose(explained, layer) if layer else explained
    reasons = planner.reasons(planned.plan.composition)
    built = find_built(planner.context.ledger, [choice.entry.spec.key.hex for choice in chosen])
    return Explanation(
        stage=stage,
        image=planned.ref,
        layers=tuple(
            replace(
                choice,
                causes=reasons.find(choice.entry.spec) if choice.entry.source is LayerSource.BUILT else (),
                built=built.get(choice.entry.spec.key.hex),
                derived=find_derived(planner.context.ledger, choice.entry.spec),
            )
            for choice in chosen
        ),
        unpacks=unpacks,
    )


def _explain_entries(entries: Sequence[PlannedLayer], stored: Set[DiffId]) -> Iterator[Explained]:
    """Yield explanations. Local storage identifies a layer by all below it: those above a change are re-imported.

    The image store does not: ``stored`` is empty where it is used.
    """
    below = ""
    for entry in entries:
        imported = entry.source is not LayerSource.STORAGE
        again = imported and entry.source is not LayerSource.BUILT and _is_in(entry.result, stored)
        yield Explained(entry=entry, again=again, below=below if again else "")
        below = below or (entry.spec.name if imported else "")


def _is_in(result: LayerResult | None, stored: Set[DiffId]) -> bool:
    return result is not None and all(blob.diff_id in stored for blob in result.blobs)


def _choose(explained: Iterable[Explained], layer: str) -> list[Explained]:
    by_name = {item.entry.spec.name: item for item in explained}
    ending = [layer] if layer in by_name else [name for name in by_name if name.endswith(f"/{layer}")]
    if len(ending) > 1:
        message = f"{len(ending)} layers are called `{layer}`"
        raise DefinitionError(message, hint=f"did you mean {', '.join(ending[:_MOST])}?")
    if ending:
        return [by_name[ending[0]]]
    digits = layer.removeprefix("sha256:").lower()
    matches = [item for item in by_name.values() if item.entry.spec.key.hex.startswith(digits)]
    if matches and len(digits) >= _SHORTEST:
        return matches
    close = get_close_matches(layer, by_name) or [name for name in by_name if layer in name] or list(by_name)
    raise DefinitionError(
        f"there is no layer `{layer}`: a name, or the first digits of a key",
        hint=f"did you mean {', '.join(close[:_MOST])}?",
    )


def print_explanation(explanation: Explanation, out: TextIO, *, whole: bool = True) -> None:
    """Print lines for every layer, and for a ``whole`` image the number of layers to be built."""
    width = max((len(sanitize_line(layer.entry.spec.name)) for layer in explanation.layers), default=0)
    for layer in explanation.layers:
        print(
            f"{sanitize_line(layer.entry.spec.name):{width}}  {sanitize_line(format_action(layer, explanation))}",
            file=out,
        )
        for line in describe_derived(layer.derived) if layer.derived else ():
            print(f"    {sanitize_line(line)}", file=out)
        for cause in layer.causes:
            print(f"    {sanitize_line(format_cause(cause))}", file=out)
    if whole:
        print(render_sum(explanation), file=out)


def format_action(layer: Explained, explanation: Explanation) -> str:
    """Return what would be done with a layer, and when and why it was built."""
    if layer.entry.source is LayerSource.BUILT:
        return "would be built" + " again" * bool(layer.built) + ", as a tool for others" * layer.tool + ":"
    if layer.again:
        action = f"{explanation.delivered} again, because {layer.below} below it changes"
    elif layer.entry.source is LayerSource.STORAGE:
        action = "stays as it is"
    else:
        fetched = "" if layer.entry.source is LayerSource.CACHE else "fetched and "
        action = f"{fetched}{explanation.delivered}"
    return action + (f"; {_format_built(layer.built, explanation.stage)}" if layer.built else "")


def _format_built(built: BuiltRecord, stage: str) -> str:
    of = f" for {built.stage}" if built.stage and built.stage != stage else ""
    return f"built {format_date(built.at)}{of}" + (f": {built.why}" if built.why else "")


def render_sum(explanation: Explanation) -> str:
    """Return the last line: the totals."""
    layers = [layer for layer in explanation.layers if not layer.tool]
    count = sum(layer.entry.source is LayerSource.BUILT for layer in layers)
    again = sum(layer.again for layer in layers)
    built = f"{count} of {len(layers)} layers would be built" if count else "nothing would be rebuilt"
    return f"{explanation.stage}: {built}" + (f", {again} {explanation.delivered} again" if again else "")
