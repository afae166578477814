"""Find the causes for which a layer is built.

Builds that have nothing to build do not import this module, and first builds do not import the comparison.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit.plan.explain.causes import Cause, CauseKind

if TYPE_CHECKING:
    from buildkit.plan.explain.comparison import History, SourceLocations
    from buildkit.plan.spec import Spec


def find_causes(spec: Spec, before: str | None, history: History, locations: SourceLocations) -> tuple[Cause, ...]:
    """Return the causes for which a layer must be built: at least one, each once.

    ``before`` is the recipe of the layer of that name in the last build, None if it had none.
    """
    fate = history.fate(spec.key)
    causes: tuple[Cause, ...] = (fate,) if fate else ()
    if before is None and not history.last:
        return causes or (Cause(CauseKind.FIRST_BUILD),)
    from buildkit.plan.explain.recipe_diff import compare_recipes

    differences = compare_recipes(spec, before, history, locations)
    return tuple(dict.fromkeys((*differences, *causes))) or (Cause(CauseKind.FORGOTTEN),)
