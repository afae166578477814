"""`nox -s scale`: follow the load of a service with replicas, on this host."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from buildkit.build.planner import open_planner
from buildkit.cli.options import make_parser, parse_positive
from buildkit.cli.up import load_environment
from buildkit.errors import DefinitionError
from buildkit.events import Emit
from buildkit.report.view import open_view
from buildkit.running.environment import RunningEnvironment
from buildkit.services.proxy import LiveProxy
from buildkit.services.rollout import choose_service
from buildkit.services.rollout_files import find_proxies, plan_of
from buildkit.services.scaler import Scaler, ScaleStep, watch_scale
from buildkit.services.start import PATIENCE, StartOptions
from buildkit.tools.gpu_meter import open_gpu_meter

_LOOKS = 5  # at the load, in a round
_EVERY = 15  # seconds a round, as HPA


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Scale a service until interrupted, or once. Raises DefinitionError, BuildError and Interrupted."""
    options = _parse(arguments)
    with open_view(sys.stderr) as emit:
        with open_planner(folder, emit) as planner:
            environment = load_environment(planner, options.environment, "--environment")
        scaler = make_scaler(environment, options.service, folder, emit)
        pause = options.every / _LOOKS
        with open_gpu_meter() if scaler.follows_gpus else nullcontext(tuple) as scaler.gpus.measure:
            if options.once:
                _report(scaler.round(_LOOKS, pause), as_json=options.json, always=True)
            else:
                watch_scale(scaler, _LOOKS, pause, lambda steps: _report(steps, as_json=options.json))
    return 0


def make_scaler(environment: RunningEnvironment, name: str, folder: Path, emit: Emit) -> Scaler:
    """Return the scaler of a service; without a name, of the only one that is scaled. Raises DefinitionError."""
    scaled = {proxy.name: proxy for proxy in find_proxies(environment) if plan_of(proxy).scale}
    service = choose_service(scaled, name, environment, "scale")
    replica = environment.get(plan_of(service).replica(plan_of(service).versions[0], 1)).container
    if replica.gpu and replica.gpu.share == "mps":  # its daemon, and so every client, starts anew with each of them
        raise DefinitionError(f"{service.name} shares GPUs by MPS: it is not scaled by load", hint="replicas = N")
    options = StartOptions(folder=folder, patience=PATIENCE)
    return Scaler(environment=environment, service=service, options=options, emit=emit, proxy=LiveProxy.of(service))


def _report(steps: Sequence[ScaleStep], *, as_json: bool, always: bool = False) -> None:
    for step in steps:
        if as_json:
            sys.stdout.write(json.dumps({"time": time.time(), **asdict(step)}) + "\n")
        elif always or step.before != step.after or step.limit:
            limit = f" ({step.limit})" if step.limit else ""
            sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {step.version}  {step.before} → {step.after}{limit}\n")
    sys.stdout.flush()


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("scale")
    parser.add_argument("service", nargs="?", default="", metavar="SERVICE", help="default: the only one with `scale`")
    parser.add_argument("--environment", default="", metavar="NAME", help="of services.toml (default: its only one)")
    parser.add_argument("--once", action="store_true", help="one round, then end")
    parser.add_argument(
        "--every", type=parse_positive, default=_EVERY, metavar="SECONDS", help="a round (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each round")
    return parser.parse_args(list(arguments))
