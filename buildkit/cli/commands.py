"""The commands: one table that the Nox sessions and the console script are made from.

Only the standard library is imported here; the module that a command runs is imported when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple


class CliCommand(NamedTuple):  # a dataclass would take a fifth of the time to list the sessions
    """A command: ``target`` is the function (``module:name``) that runs it, ``summary`` a line for lists of commands.

    The function takes the folder of the project, for a command of one stage its name, and the arguments.
    It returns the exit code, or None for 0, and raises BuildkitError.
    """

    name: str
    target: str
    summary: str

    def load(self) -> Callable[..., int | None]:
        """Import and return the function."""
        module, _, name = self.target.partition(":")
        function: Callable[..., int | None] = getattr(import_module(module), name)
        return function


def _command(name: str, summary: str, target: str = "") -> CliCommand:
    return CliCommand(name=name, target=target or f"buildkit.cli.{name.replace('-', '_')}:run", summary=summary)


# the session is NAME-STAGE, the console command NAME STAGE; Nox lists `build-STAGE` with the summary of the stage
STAGE_COMMANDS = (
    _command("build", "Build {stage}: {summary}", "buildkit.cli.build:run_build"),
    _command("push", "Push {stage} to a registry, built first if needed (-- REF).", "buildkit.cli.build:run_push"),
    _command("run", "Run {stage} in a restricted container, built first if needed (-- --print, --port N)."),
)

COMMANDS = (
    _command("init", "Write stages for an existing repository (-- --file Dockerfile, --into FOLDER)."),
    _command("build", "Build every image that ships."),
    _command("plan", "Show where every layer will come from, and what it will cost (-- STAGE, --json)."),
    _command("explain", "Show why layers will be rebuilt, or why they were built (-- STAGE [LAYER], --json)."),
    _command("reproduce", "Rebuild a stage's layers in another environment and compare them (-- STAGE)."),
    _command("dashboards", "Write dashboards for Grafana and Perses (-- FOLDER)."),
    _command("timings", "Show how long recent builds took, and their slowest phases (-- STAGE, --last N)."),
    _command("verify-image", "Check that an image in a registry is a stage of this checkout (-- STAGE REF)."),
    _command("matrix", "Print the stages that need work, in waves, as JSON for CI (-- STAGE, --cache REPO)."),
    _command("graph", "Draw stages and layers (-- STAGE, --svg FILE, --mermaid, --json)."),
    _command(
        "export-containerfile",
        "Write a stage as a Containerfile that builds without this project (-- STAGE, --output FILE).",
    ),
    _command("sbom", "Print an image's SBOM as CycloneDX or SPDX (-- STAGE, --format spdx, --output FILE)."),
    _command("audit-deps", "Look up advisories for what the locks pin (-- STAGE, --json, --ignore ID)."),
    _command("lock", "Make or refresh the locks under requirements/ (-- --upgrade, -- --check)."),
    _command(
        "derive", "Make the derived models of models.toml, and lock those that pass their gates (-- MODEL, --check)."
    ),
    _command(
        "optimise", "Compare variants of a model: accuracy, latency, size (-- MODEL, --svg FILE, --write VARIANT)."
    ),
    _command("cache", "Inspect and clean the cache (-- ls, du, gc, verify, why KEY)."),
    _command(
        "scan-models", "Scan model files for code that runs when they are loaded (-- STAGE|PATH, --json, --sarif FILE)."
    ),
    _command("push-models", "Give the models to others through a registry (-- REF --as modelpack, --model NAME)."),
    _command("doctor", "Check this host: tools, storage, user namespaces, disk, log-ins, GPUs."),
    _command("gpus", "List GPUs and CDI specifications, and what keeps containers from them (-- --json, --watch)."),
    _command("top", "Show what running containers use, live (-- --all, --json, --stream, --interval SECONDS)."),
    _command("monitor", "Serve what running containers use as metrics (-- --all, --listen ADDRESS:PORT, --push)."),
    _command("drift", "Make a model's reference profile, or compare a running service with it (-- profile|report)."),
    CliCommand(
        name="bench-build",
        target="buildkit.cli.bench:run",
        summary="Race against buildah and BuildKit (-- --workload heavy, --repeat N).",
    ),
    _command("profile", "Profile a stage's service under load: functions, operators, memory (-- STAGE, --json)."),
    _command("bench-dev", "Measure how long saves, starts, tests and pins take in nox -s dev (-- --write FILE)."),
    _command("bench-serve", "Measure the service under load (-- --before COMMIT, --guide, --write FILE)."),
    _command(
        "audit",
        "Find security problems in an image (-- STAGE|REF, --json, --sarif FILE, --fail-on SEVERITY).",
    ),
    _command("audit-running", "Watch running containers for what is not declared (-- --once, --stream, --key PUB)."),
    _command("dev", "Start the development environment, and follow every save (-- --stop, --shell SERVICE, --test)."),
    _command("watch", "Bring saved files into the containers of a compose file (-- FILE SERVICE, --json)."),
    _command("up", "Start services that run together, or end them (-- ENVIRONMENT, --down, --print)."),
    _command("observe", "Start Prometheus, Alertmanager and the monitor, or end them (-- ENVIRONMENT, --down)."),
    _command("rollout", "Show which version serves whom, and shift users (-- status|promote|back|watch SERVICE)."),
    _command("scale", "Start and end replicas of a service by its load (-- SERVICE, --once, --json)."),
    _command("devcontainer", "Write .devcontainer/devcontainer.json from services.toml (-- ENVIRONMENT SERVICE)."),
    _command("parity", "List in what one stage differs from another, and fail for what is not meant (-- STAGE OTHER)."),
    _command("schema", "Print the JSON Schema of stage.toml, or of services.toml (-- --services; FILE writes it)."),
)


def run_command(command: CliCommand, folder: Path, *arguments: str | Sequence[str]) -> int:
    """Run a command with its arguments, after the stage for one of STAGE_COMMANDS; return the exit code.

    Errors are printed, with what to do.
    """
    from buildkit.cli.guard import guarded

    return guarded(lambda: command.load()(folder, *arguments))
