"""What a checkout declares of the containers that run: their stage or service, its flags and exceptions, its image."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from buildkit.audit.described import DescribedContainer
from buildkit.audit.sighting import DeclaredContainer, ImageState, ImageVerdict
from buildkit.build.gpu_environment import with_counted_gpus
from buildkit.build.planner import Planner, check_stage, open_planner
from buildkit.declare.audit_file import AuditAcceptance, load_acceptances
from buildkit.declare.observe_settings import STACK
from buildkit.declare.ports import parse_port
from buildkit.declare.services import FILE, Environment
from buildkit.declare.services_file import load_services
from buildkit.declare.stage import Running
from buildkit.errors import BuildError, DefinitionError
from buildkit.events import Emit, ignore_event
from buildkit.inspection.signed_images import RightImages, SignedImages, find_right_images
from buildkit.inspection.stage_container import describe_container
from buildkit.running.environment import RunningEnvironment, RunningService, make_environment
from buildkit.running.flags import ContainerSpec
from buildkit.running.labels import ENVIRONMENT, PROJECT, SERVICE
from buildkit.running.mps import with_mps
from buildkit.store.ledger_key import key_file

_REFRESH = 300.0  # seconds until checkout and registry are asked again


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """What a session adds to a container that it starts: ports, the host's files with their targets, and findings.

    Those are accepted, each with a reason.
    """

    ports: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    acceptances: tuple[AuditAcceptance, ...] = ()


NOTHING = Additions()


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherSessions:
    """How other sessions start containers of the project.

    ``added`` says what the development session adds to one. ``load_stack`` returns the folder of the project whose
    stages watch, and the environment in which they run beside the one that has one of these networks.
    """

    added: Callable[[DescribedContainer], Additions] = lambda _: NOTHING
    load_stack: Callable[[frozenset[str]], tuple[Path, RunningEnvironment] | None] = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What is declared of a container, and the verdict on its image."""

    declared: DeclaredContainer
    image: ImageVerdict


class Declarations:
    """What a checkout declares of containers; each is looked up once in five minutes.

    The project is opened only then: a watch that lasts for days holds no part of the cache.
    """

    def __init__(
        self,
        folder: Path,
        emit: Emit,
        signed: SignedImages,
        clock: Callable[[], float],
        others: OtherSessions | None = None,
    ) -> None:
        self._folder, self._emit, self._signed, self._clock = folder, emit, signed, clock
        self._others = others or OtherSessions()
        self._known: dict[str, Declaration] = {}
        self._asked_at = clock()
        with open_planner(folder, emit) as planner:
            project = planner.context.project
            self._project = project.name
            self._stages = {project.ref(stage): stage for stage in planner.graph.stages}
            for stage in signed.refs:
                check_stage(planner.graph, stage)

    def concerns(self, one: DescribedContainer) -> bool:
        """Return whether a container is this project's: labelled with it, or of one of its images."""
        labelled = one.labels.get(PROJECT, "")
        return labelled == self._project or (not labelled and bool(self.stage_of(one)))

    def stage_of(self, one: DescribedContainer) -> str:
        """Return the stage whose image a container runs by name; empty for other images."""
        return self._stages.get(one.image_name) or self._signed.find_stage(one.image_name)

    def find(self, containers: Iterable[DescribedContainer]) -> tuple[dict[str, Declaration], str]:
        """Return the declarations by container, and why the checkout could not be asked; empty if it was, or need not.

        Then what was known before holds, and of others the recommended flags alone, and no image is the right one.
        """
        wanted = tuple(containers)
        is_old = abs(self._clock() - self._asked_at) >= _REFRESH
        why = ""
        if is_old or any(one.id not in self._known for one in wanted):
            try:
                before = {} if is_old else self._known
                known = {one.id: before[one.id] for one in wanted if one.id in before}
                self._known = known | self._ask([one for one in wanted if one.id not in known])
                self._asked_at = self._clock() if is_old else self._asked_at
            except (BuildError, DefinitionError) as error:
                why = f"the checkout could not be asked: {error.message}"
        unknown = ImageVerdict(state=ImageState.UNKNOWN, why=why)
        return {
            one.id: self._known.get(one.id) or Declaration(declared=declare_foreign(one), image=unknown)
            for one in wanted
        }, why

    def _ask(self, wanted: Iterable[DescribedContainer]) -> dict[str, Declaration]:
        """Ask the checkout, and for what watches the project that it is made of. Raises DefinitionError, BuildError."""
        left = {one.id: one for one in wanted}
        watching = [one for one in left.values() if self._is_watching(one)]
        found: dict[str, Declaration] = {}
        if watching and (stack := self._others.load_stack(frozenset().union(*(one.networks for one in watching)))):
            folder, environment = stack
            with open_planner(folder, ignore_event) as planner:
                stages = {service.name: service for service in environment.services}
                look = _CheckoutLook(planner, self._project, self._signed, lambda _, name: stages.get(name))
                found = {one.id: look.declare(one, "") for one in watching if one.labels[SERVICE] in stages}
        if left.keys() - found.keys():
            with open_planner(self._folder, self._emit) as planner:
                look = _CheckoutLook(planner, self._project, self._signed)
                found |= {
                    one.id: _add(look.declare(one, self.stage_of(one)), self._others.added(one))
                    for one in left.values()
                    if one.id not in found
                }
        return found

    def _is_watching(self, one: DescribedContainer) -> bool:
        labels = one.labels
        return (labels.get(PROJECT), labels.get(ENVIRONMENT)) == (self._project, STACK) and SERVICE in labels


def _add(known: Declaration, added: Additions) -> Declaration:
    """Return what is declared with what a session adds."""
    declared = replace(
        known.declared,
        exposed=(*known.declared.exposed, *added.ports),
        sources=(*known.declared.sources, *added.sources),
        acceptances=(*known.declared.acceptances, *added.acceptances),
    )
    return replace(known, declared=declared)


def declare_foreign(one: DescribedContainer) -> DeclaredContainer:
    """Return what is recommended for a container of which nothing is declared."""
    spec = ContainerSpec(image=one.image_name, name=one.name, running=Running())
    return DeclaredContainer(spec=spec, exposed=one.exposed)


class _CheckoutLook:
    """A look at the checkout: environments are made, and right images looked up, once."""

    def __init__(
        self,
        planner: Planner,
        project: str,
        signed: SignedImages,
        find_service: Callable[[str, str], RunningService | None] | None = None,
    ) -> None:
        self._planner, self._project, self._signed = planner, project, signed
        self._find = find_service or self._find_service
        self._environments: dict[str, tuple[Environment, RunningEnvironment]] = {}
        self._right: dict[str, RightImages] = {}

    def declare(self, one: DescribedContainer, stage: str) -> Declaration:
        """Return what is declared of a container. Raises DefinitionError and BuildError."""
        service, name = one.labels.get(SERVICE, ""), one.labels.get(ENVIRONMENT, "")
        found = None
        if service and one.labels.get(PROJECT) == self._project:
            found = self._find(name, service)
        if found is None and not stage:
            return Declaration(declared=declare_foreign(one), image=self._judge(one, ""))
        stage = (found.stage if found else "") or stage
        spec = found.container if found else describe_container(self._planner, stage)
        declared = DeclaredContainer(
            spec=spec,
            stage=stage,
            exposed=(*one.exposed, *self._exposed(stage)),
            reasons=self._reasons(name, found) if found and name in self._environments else {},
            peers=frozenset(address for network in spec.networks for address in network.addresses.values()),
            acceptances=self._acceptances(stage),
        )
        return Declaration(declared=declared, image=self._judge(one, stage, found.image if found else ""))

    def _find_service(self, name: str, service: str) -> RunningService | None:
        """Return a service of an environment; None if services.toml has it no more."""
        folder, graph = self._planner.context.project.folder, self._planner.graph
        if not (folder / FILE).exists():
            return None  # `dev` runs a stage alone
        if name not in self._environments:
            services = load_services(folder, graph.stages)
            if name not in {one.name for one in services.environments}:
                return None
            counted = with_counted_gpus(services, name, self._describe)
            state = str(key_file().parent)
            made = make_environment(counted, name, self._describe, project=self._project, state=state)
            self._environments[name] = services.environment(name), with_mps(made)
        return next((one for one in self._environments[name][1].services if one.name == service), None)

    def _describe(self, stage: str) -> ContainerSpec:
        return describe_container(self._planner, stage)

    def _reasons(self, name: str, found: RunningService) -> dict[str, str]:
        """Return the reasons of a service's exceptions, by what they allow; those of replicas are their service's."""
        service = found.replica.service if found.replica else found.name
        declared = (one for one in self._environments[name][0].services if one.name == service)
        return {exemption.allow: exemption.why for one in declared for exemption in one.exceptions}

    def _exposed(self, stage: str) -> tuple[str, ...]:
        if not stage:
            return ()
        ports = map(parse_port, self._planner.composer.compose(stage).config.ports)
        return tuple(f"{port.number}/{port.protocol}" for port in ports)

    def _acceptances(self, stage: str) -> tuple[AuditAcceptance, ...]:
        if not stage:
            return ()
        stages = (part.name for part in self._planner.graph.resolve(stage).parts)
        return load_acceptances(self._planner.context.project.folder, stages)

    def _judge(self, one: DescribedContainer, stage: str, pinned: str = "") -> ImageVerdict:
        if stage or not pinned:
            if stage not in self._right:
                self._right[stage] = find_right_images(self._planner, stage, self._signed)
            return self._right[stage].judge(one.image)
        if one.digest and pinned.endswith(f"@{one.digest}"):
            return ImageVerdict(state=ImageState.GOOD)
        why = f"it is {one.digest or 'of no known digest'}, and services.toml names {pinned}"
        return ImageVerdict(state=ImageState.UNKNOWN, why=why)
