"""The Nox face, thin. The only importer of ``nox``.

Another repository's noxfile needs two lines::

    from buildkit.sessions import register

    register()

Everything heavy is imported by the session that needs it: listing sessions costs milliseconds.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import nox

Action = Callable[[Path, Sequence[str]], int]


def register(folder: Path | str | None = None) -> None:
    """Register the sessions of the project at ``folder`` (the noxfile's own folder unless said).

    ``build-STAGE``, ``push-STAGE`` and ``run-STAGE`` for every ``stages/STAGE/stage.toml``, and ``build``, ``plan``,
    ``explain``, ``reproduce``, ``matrix``, ``export-containerfile``, ``lock``, ``cache``, ``doctor`` and ``schema``.
    Stage files are not read here: a mistake in one is reported by the session that needs it.
    """
    root = Path(folder) if folder is not None else _caller()
    for path in sorted(root.glob("stages/*/stage.toml")):
        stage = path.parent.name
        if not stage.isprintable():  # what reads the stages says what is wrong with it
            continue
        _session(f"build-{stage}", f"Build {stage}: {_summary(path)}", root, _build(stage))
        _session(f"push-{stage}", f"Build {stage} and push it to a registry (-- REF).", root, _build(stage, push=True))
        _session(f"run-{stage}", f"Build {stage} and run it, hardened (-- --print, --port N).", root, _run(stage))
    _session("build", "Build every image that ships.", root, _build(None))
    _session("plan", "Say where every layer will come from, and what it will cost (-- STAGE, --json).", root, _plan)
    _session(
        "explain", "Say why layers would be built again, or were built (-- STAGE [LAYER], --json).", root, _explain
    )
    _session("reproduce", "Build a stage's layers again, elsewhere, and compare (-- STAGE).", root, _reproduce)
    _session("timings", "Show how builds developed, and their slowest phases (-- STAGE, --last N).", root, _timings)
    summary = "Check that an image in a registry is made of what this checkout's locks produce (-- REF)."
    _session("verify-image", summary, root, _verify_image)
    _session(
        "matrix", "Print the stages that need work, in waves, as JSON for CI (-- STAGE, --cache REPO).", root, _matrix
    )
    _session("graph", "Draw stages and layers (-- STAGE, --svg FILE, --mermaid, --json).", root, _graph)
    summary = "Write a stage as a Containerfile that builds without this project (-- STAGE, --output FILE)."
    _session("export-containerfile", summary, root, _export)
    summary = "Print what an image is made of, as CycloneDX or SPDX (-- STAGE, --format spdx, --output FILE)."
    _session("sbom", summary, root, _sbom)
    summary = "Ask whether advisories are known for what the locks pin (-- STAGE, --json, --ignore ID)."
    _session("audit-deps", summary, root, _audit_deps)
    _session("lock", "Make or refresh the locks under requirements/ (-- --upgrade, -- --check).", root, _lock)
    _session("cache", "See to the cache (-- ls, du, gc, verify, why KEY).", root, _cache)
    summary = "Scan model files for what they would do when they are loaded (-- STAGE|PATH, --json, --sarif FILE)."
    _session("scan-models", summary, root, _scan_models)
    _session("doctor", "Check this host: tools, storage, user namespaces, disk, log-ins, GPUs.", root, _doctor)
    _session("bench-build", "Race against buildah and BuildKit (-- --workload heavy, --repeat N).", root, _bench)
    summary = "Look for what is wrong with an image (-- STAGE|REF, --json, --sarif FILE, --fail-on SEVERITY)."
    _session("audit", summary, root, _audit)
    _session("schema", "Print the JSON Schema of stage.toml (-- FILE writes it).", root, _schema)


def _session(name: str, summary: str, root: Path, action: Action) -> None:
    def session(session: nox.Session) -> None:
        _hush_libraries()
        code = action(root, session.posargs)
        if code:
            # nox knows one exit code for failures; ours tell a wrong definition (2) from a failed build (1)
            raise SystemExit(code)

    session.__doc__ = summary
    nox.session(name=name, python=False, venv_backend="none")(session)


def _hush_libraries() -> None:
    """Leave nox's own lines, and warnings of others: nox shows every library's debugging, among a build's lines.

    ``nox --verbose`` sets a level of its own and keeps it all.
    """
    root = logging.getLogger()
    if root.level == logging.DEBUG:
        logging.getLogger("nox").setLevel(logging.DEBUG)
        root.setLevel(logging.WARNING)


def _build(stage: str | None, *, push: bool = False) -> Action:
    def action(root: Path, arguments: Sequence[str]) -> int:
        from buildkit.cli.main import build

        return build(root, stage, arguments, push=push)

    return action


def _run(stage: str) -> Action:
    def action(root: Path, arguments: Sequence[str]) -> int:
        from buildkit.cli.main import guarded
        from buildkit.cli.run import run_stage

        return guarded(lambda: run_stage(root, stage, arguments))

    return action


def _plan(root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.main import guarded
    from buildkit.inspection.plan import plan

    return guarded(lambda: plan(root, arguments))


def _explain(root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.main import guarded
    from buildkit.inspection.explain import explain

    return guarded(lambda: explain(root, arguments))


def _reproduce(root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.main import guarded
    from buildkit.reproduce.comparison import reproduce

    return guarded(lambda: reproduce(root, arguments))


def _timings(root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.main import guarded
    from buildkit.inspection.timings import timings

    return guarded(lambda: timings(root, arguments))


def _verify_image(root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.main import guarded
    from buildkit.inspection.verify_image import verify_image

    return guarded(lambda: verify_image(root, arguments))


def _matrix(root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.main import guarded
    from buildkit.inspection.matrix import matrix

    return guarded(lambda: matrix(root, arguments))


def _graph(root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.main import guarded
    from buildkit.inspection.graph import graph

    return guarded(lambda: graph(root, arguments))


def _export(root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.main import guarded
    from buildkit.inspection.export_containerfile import export

    return guarded(lambda: export(root, arguments))


def _sbom(root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.main import guarded
    from buildkit.inspection.sbom import sbom

    return guarded(lambda: sbom(root, arguments))


def _audit_deps(root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.main import guarded
    from buildkit.inspection.audit_deps import audit_deps

    return guarded(lambda: audit_deps(root, arguments))


def _lock(root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.lock import lock
    from buildkit.cli.main import guarded

    return guarded(lambda: lock(root, arguments))


def _cache(root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.cache import cache
    from buildkit.cli.main import guarded

    return guarded(lambda: cache(root, arguments))


def _scan_models(root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.main import guarded
    from buildkit.inspection.scan_models import scan_models

    return guarded(lambda: scan_models(root, arguments))


def _doctor(_root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.doctor import main
    from buildkit.cli.main import guarded

    return guarded(lambda: main(arguments))


def _bench(root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.bench import bench
    from buildkit.cli.main import guarded

    return guarded(lambda: bench(root, arguments))


def _audit(root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.main import guarded
    from buildkit.inspection.audit import audit

    return guarded(lambda: audit(root, arguments))


def _schema(root: Path, arguments: Sequence[str]) -> int:
    from buildkit.cli.main import write_schema

    return write_schema(root, arguments)


def _summary(path: Path) -> str:
    """The line ``summary = "…"`` of a stage file, without reading it as TOML: listing is quick and never fails."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError:
        return "cannot be read"
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "summary":
            return "".join(filter(str.isprintable, value.strip().strip("\"'")))
    return "no summary"


def _caller() -> Path:
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return Path(frame.f_code.co_filename).resolve().parent if frame is not None else Path.cwd()
