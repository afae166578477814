"""Which images this checkout would build: their ids, as far as the results of all layers are known here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from buildkit.build.assemble import assemble
from buildkit.build.planner import Planner, open_planner
from buildkit.digest import Digest
from buildkit.events import Emit


class ExpectedImages:
    """Ids of images by the names that local storage has them by; each is looked up once.

    The project is opened only then: a watch that lasts for hours holds no part of the cache.
    """

    def __init__(self, folder: Path, stages: Mapping[str, str], emit: Emit) -> None:
        self._folder, self._stages, self._emit = folder, stages, emit
        self._known: dict[str, str | None] = {}

    def find(self, names: tuple[str, ...]) -> Mapping[str, str]:
        """Return the ids of those images that are this project's and known. Raises DefinitionError and BuildError."""
        new = [name for name in names if name in self._stages and name not in self._known]
        if new:
            with open_planner(self._folder, self._emit) as planner:
                self._known |= {name: find_expected_id(planner, self._stages[name]) for name in new}
        return {name: image for name in names if (image := self._known.get(name))}


def find_expected_id(planner: Planner, stage: str) -> str | None:
    """Return the id (64 digits) of a stage's image; None if it has layers that were never built here."""
    composition = planner.composer.compose(stage)
    results = planner.context.ledger.layers.find(spec.key for spec in composition.specs)
    if any(spec.key not in results for spec in composition.specs):
        return None
    image = assemble(composition.specs, composition.config, results, planner.context.project.target.deb_arch)
    return Digest.of(image.config_blob()).hex
