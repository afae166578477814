"""Which services run for development: those of ``services.toml``, or the development stage alone."""

from __future__ import annotations

import posixpath
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from buildkit.build.planner import Planner
from buildkit.declare.graph import Graph
from buildkit.declare.ports import PublishedPort, parse_port
from buildkit.declare.services import FILE, Environment, Service, Services
from buildkit.declare.services_file import load_services
from buildkit.declare.stage import Healthcheck
from buildkit.develop.adapt import DEBUG_PORT
from buildkit.errors import DefinitionError
from buildkit.inspection.stage_container import describe_container
from buildkit.running.environment import RunningEnvironment, RunningService, make_environment
from buildkit.running.mounts import BindMount
from buildkit.running.mps import with_mps

ENVIRONMENT = "dev"
STAGE = "development"
JUPYTER = "jupyter"
JUPYTER_PORT = 8888
TOKEN = "/run/jupyter-token"  # noqa: S105 - the path of a file
NOTEBOOKS = "notebooks"
_IS_UP = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{JUPYTER_PORT}/api')"


def load_dev_services(folder: Path, graph: Graph, *, stage: str = "") -> Services:
    """Return the services of the project, or without ``services.toml`` a single one, called ``app``, of a stage.

    Raises DefinitionError.
    """
    if (folder / FILE).exists() and not stage:
        return load_services(folder, graph.stages)
    name = stage or STAGE
    if stage and stage not in graph.stages:
        raise DefinitionError(f"there is no stage `{stage}`", hint=f"stages are {', '.join(sorted(graph.stages))}")
    if name not in graph.stages:
        hint = f"write {FILE}, or name the stage to work in: nox -s dev -- --stage STAGE"
        raise DefinitionError(f"there is neither {FILE} nor a stage `{name}`", hint=hint)
    ports = tuple(parse_port(text) for text in graph.resolve(name).config.ports)
    ours = (DEBUG_PORT, JUPYTER_PORT)  # published by those who use them
    service = Service(name="app", stage=name, ports=tuple(port for port in ports if port.number not in ours))
    return Services(file=FILE, services=(service,), environments=(Environment(name=ENVIRONMENT, services=(service,)),))


def make_dev_environment(services: Services, planner: Planner, environment: str = ENVIRONMENT) -> RunningEnvironment:
    """Return the environment as `nox -s up` would start it, without proxies before services. Raises DefinitionError."""
    made = make_environment(
        without_proxies(services),
        environment,
        lambda stage: describe_container(planner, stage),
        project=planner.context.project.name,
    )
    return with_mps(made)


def without_proxies(services: Services) -> Services:
    """Return services of which each is one container: the code of one is what is being worked on."""

    def alone(service: Service) -> Service:
        return replace(service, replicas=0, proxy=None, rollout=None, scale=None)

    environments = (replace(one, services=tuple(map(alone, one.services))) for one in services.environments)
    return replace(services, services=tuple(map(alone, services.services)), environments=tuple(environments))


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebooks:
    """Jupyter beside a service: ``owner`` are user and group id of the developer's folder, ``token`` is new each time.

    The token is in a file, for podman shows the environment of a container to everybody who may ask it.
    """

    folder: Path
    token: str
    token_file: Path
    owner: tuple[int, int]

    @property
    def link(self) -> str:
        """The address with the token, for a browser on this host."""
        return f"http://127.0.0.1:{JUPYTER_PORT}/lab?token={self.token}"


def prepare_notebooks(project: Path, run: Path) -> Notebooks:
    """Make the folder of notebooks and a token for this run, in a file that only this user and the container see."""
    folder = project / NOTEBOOKS
    folder.mkdir(exist_ok=True)
    status, token, file = folder.stat(), secrets.token_urlsafe(24), run / posixpath.basename(TOKEN)
    file.write_text(token)
    file.chmod(0o444)  # the run's own folder is private
    return Notebooks(folder=folder, token=token, token_file=file, owner=(status.st_uid, status.st_gid))


def with_jupyter(services: Services, environment: str, beside: str, *, python: str) -> Services:
    """Return the services with Jupyter in an environment: the stage of a service, in a container of its own.

    Raises DefinitionError if there is no such environment or service.
    """
    found = services.environment(environment)
    app = next((one for one in found.services if one.name == beside), None)
    if app is None or not app.stage:
        raise DefinitionError(f"{beside}: there is no service of a stage of this name in {environment}")
    command = (
        python, "-m", "jupyterlab", "--ip=0.0.0.0", f"--port={JUPYTER_PORT}", "--no-browser",
        f"--ServerApp.root_dir=/{NOTEBOOKS}",
    )  # fmt: skip
    folders = (
        ("HOME", "/tmp/home"), ("IPYTHONDIR", "/tmp/ipython"), ("JUPYTER_DATA_DIR", "/tmp/jupyter"),  # noqa: S108
        ("JUPYTER_RUNTIME_DIR", "/tmp/jupyter/run"), ("JUPYTER_TOKEN_FILE", TOKEN),  # noqa: S108
    )  # fmt: skip
    jupyter = Service(
        name=JUPYTER,
        stage=app.stage,
        command=command,
        ports=(PublishedPort(number=JUPYTER_PORT, host=JUPYTER_PORT),),
        env=tuple({**dict(app.env), **dict(folders)}.items()),
        resources=app.resources,
        gpu=app.gpu,
        health=Healthcheck(test=(python, "-c", _IS_UP), interval=5, timeout=5, start_period=30, retries=3),
    )
    changed = replace(found, services=tuple(sorted((*found.services, jupyter), key=lambda one: one.name)))
    others = (one for one in services.environments if one.name != environment)
    return replace(services, environments=(*others, changed))


def give_notebooks(service: RunningService, notebooks: Notebooks, *, rootless: bool) -> RunningService:
    """Return Jupyter's service with the developer's folder, written as the developer, and with its token.

    Its kernels import the application from the folders that are mounted already.
    """
    container = service.container
    user, options = _map_user(notebooks.owner, container.owner or (1000, 1000), rootless=rootless)
    staged = ":".join(mount.target for mount in container.mounts if isinstance(mount, BindMount))
    container = replace(
        container,
        user=user,
        command=(*container.command, *(("--allow-root",) if user.startswith("0:") else ())),
        env=(*container.env, *((("PYTHONPATH", staged),) if staged else ())),
        mounts=(
            *container.mounts,
            BindMount(source=str(notebooks.folder), target=f"/{NOTEBOOKS}", writable=True),
            BindMount(source=str(notebooks.token_file), target=TOKEN),
        ),
        options=(*container.options, *options),
    )
    return replace(service, container=container)


def _map_user(owner: tuple[int, int], inside: tuple[int, int], *, rootless: bool) -> tuple[str, tuple[str, ...]]:
    """Return the user of a container that writes the developer's files, and podman's options for that."""
    if rootless:
        return f"{inside[0]}:{inside[1]}", (f"--userns=keep-id:uid={inside[0]},gid={inside[1]}",)
    return f"{owner[0]}:{owner[1]}", ()
