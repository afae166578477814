"""The scenarios: a change of the checkout, and what it means for an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from buildkit.bench.participant import EVERYTHING, Goal
from buildkit.bench.project_copy import ProjectChange
from buildkit.bench.root_images import RELEASE, release
from buildkit.bench.workload import Workload
from buildkit.digest import FileHash

Make = Callable[[Workload, int], ProjectChange]
Lack = Callable[[Workload], str]


def _always(_workload: Workload) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A row of the results. ``change`` runs before each repetition; ``lacks`` returns why it cannot.

    ``cold`` starts from nothing at all. ``cleared`` starts from nothing but what the registry has.
    """

    name: str
    title: str
    goals: tuple[Goal, ...] = tuple(Goal)
    change: Make | None = None
    lacks: Lack = field(default=_always)
    cold: bool = False
    cleared: bool = False


def _line(workload: Workload, number: int) -> ProjectChange:
    return workload.checkout.change_line(number)


def _light(workload: Workload, number: int) -> ProjectChange:
    wheel = workload.checkout.light()
    assert wheel is not None  # noqa: S101 - `lacks` was asked
    return workload.checkout.change_pin(wheel, number)


def _heavy(workload: Workload, number: int) -> ProjectChange:
    wheel = workload.checkout.heavy()
    assert wheel is not None  # noqa: S101 - `lacks` was asked
    return workload.checkout.change_pin(wheel, number)


def _added(workload: Workload, number: int) -> ProjectChange:
    return workload.checkout.add_wheel(number)


def _model(workload: Workload, number: int) -> ProjectChange:
    return workload.checkout.change_model(number)


def _base(workload: Workload, number: int) -> ProjectChange:
    workload.use_root(number)
    digits = FileHash.of(release(number)).hex
    return ProjectChange(files=((RELEASE, digits),), kinds=(("image", workload.root_layers),), inputs=(EVERYTHING,))


def _no_wheels(workload: Workload) -> str:
    return "" if workload.checkout.light() else "the stage has no wheels"


def _no_heavy(workload: Workload) -> str:
    return "" if workload.checkout.heavy() else "no wheel is heavy enough for a layer of its own"


def _no_model(workload: Workload) -> str:
    return "" if workload.checkout.models() else "the stage has no model of the project's own (path:)"


SCENARIOS = (
    Scenario(name="cold", title="cold", goals=(Goal.RUNNABLE, Goal.PUSHED), cold=True),
    Scenario(name="elsewhere", title="the same, elsewhere", goals=(Goal.PUSHED,), cleared=True),
    Scenario(name="nothing", title="nothing changed"),
    Scenario(name="app-line", title="one application line", change=_line),
    Scenario(name="light-pin", title="one light pin", change=_light, lacks=_no_wheels),
    Scenario(name="heavy-pin", title="one heavy pin", change=_heavy, lacks=_no_heavy),
    Scenario(name="added-wheel", title="one wheel more", change=_added, lacks=_no_wheels),
    Scenario(name="one-model", title="one model", change=_model, lacks=_no_model),
    Scenario(name="base", title="another base", change=_base),
)
NAMES = tuple(scenario.name for scenario in SCENARIOS)
