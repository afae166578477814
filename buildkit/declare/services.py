"""Services and the environments in which they run together, as ``services.toml`` defines them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from buildkit.declare.gpu_request import GpuRequest
from buildkit.declare.nim_settings import Nim
from buildkit.declare.observe_settings import NOTHING, Metrics, Observe
from buildkit.declare.ports import PublishedPort
from buildkit.declare.proxy_settings import ProxySettings
from buildkit.declare.rollout import Rollout, Scale
from buildkit.declare.schema import suggest_word
from buildkit.declare.stage import Healthcheck
from buildkit.errors import DefinitionError

FILE = "services.toml"
PER_GPU = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """A service that must be ``started``, ``healthy`` or ``completed`` (ended with 0) before another starts."""

    service: str
    condition: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedVolume:
    """A volume by its name in the file, and the folder at which a service has it.

    ``owned`` is whether it belongs to the service's user from the start. It needs ``size`` (``60g``), empty: unknown.
    """

    name: str
    target: str
    owned: bool = False
    size: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """A protection that a service cannot have, in words, and why.

    ``allow`` is ``capability:NAME``, ``writable-root``, ``new-privileges``, or ``executable:/FOLDER`` of a folder in
    memory.
    """

    allow: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a change of ``path`` does: ``sync``, ``restart``, ``sync+restart``, ``rebuild`` or ``reload``.

    ``target`` is where the path lies in the container; ``ignore`` are patterns below the path.
    """

    path: str
    action: str
    target: str = ""
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """How `nox -s dev` reloads a Python service; see docs/development.md.

    ``keep`` are modules, or functions as ``module:function``, whose results outlive changes of the code; ``preload``
    are modules that are imported once. ``probe`` is a path whose answer says that new code is ready. ``mode`` is
    ``auto``, ``fresh`` (a new process each time), ``restart`` or ``off`` (the container is restarted).
    """

    keep: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    probe: str = ""
    mode: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """Which replica of which service a container is: number ``number`` (from 1) of a ``version``, empty without one."""

    service: str
    version: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service: the image of a ``stage``, or ``image`` by digest, and how it runs.

    With ``proxy``, replicas run behind a proxy that has the service's name; ``replica`` says which of them this is.
    ``replicas`` is their number, `PER_GPU` for one on each GPU that the service asks for, 0 if ``scale`` says it.
    ``resources`` are fields of `Running` that differ from the stage's. ``gpu`` and ``health`` are None for the stage's.
    ``secret_variables`` are variables whose values are secrets, by name. ``metrics`` is where it answers Prometheus.
    """

    name: str
    stage: str = ""
    image: str = ""
    user: str = ""
    depends_on: tuple[Dependency, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    secret_variables: tuple[tuple[str, str], ...] = ()
    volumes: tuple[NamedVolume, ...] = ()
    command: tuple[str, ...] = ()
    resources: tuple[tuple[str, Any], ...] = ()
    gpu: GpuRequest | None = None
    health: Healthcheck | None = None
    exceptions: tuple[Exemption, ...] = ()
    watch: tuple[Watch, ...] = ()
    reload: Reload = Reload()
    replicas: int = 0
    proxy: ProxySettings | None = None
    rollout: Rollout | None = None
    scale: Scale | None = None
    replica: Replica | None = None
    nim: Nim | None = None
    metrics: Metrics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSecret:
    """A secret and its one source: a variable, a file, a program that prints it, or chance."""

    name: str
    env: str = ""
    file: str = ""
    command: tuple[str, ...] = ()
    generate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Services that run together, with their overrides applied, sorted by name; ``subnet`` is empty for one by name."""

    name: str
    services: tuple[Service, ...]
    subnet: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a ``services.toml`` defines; ``file`` is its path relative to the project, ``observe`` what watches it."""

    file: str
    services: tuple[Service, ...] = ()
    secrets: tuple[ServiceSecret, ...] = ()
    environments: tuple[Environment, ...] = ()
    observe: Observe = NOTHING

    def environment(self, name: str) -> Environment:
        """Return an environment. Raises DefinitionError, with the most similar name as the hint."""
        found = {environment.name: environment for environment in self.environments}
        if name not in found:
            hint = suggest_word(name, list(found)) or f"environments are {', '.join(found)}"
            raise DefinitionError(f"{self.file}: there is no environment `{name}`", hint=hint)
        return found[name]
