"""`nox -s rollout`: which version serves whom, and the step forward or back."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from buildkit.build.planner import open_planner
from buildkit.cli.options import make_parser, parse_positive
from buildkit.cli.up import load_environment
from buildkit.errors import DefinitionError
from buildkit.report.table import print_table
from buildkit.report.text import sanitize_line
from buildkit.report.view import open_view
from buildkit.rollout.decide import RolloutAction, RolloutDecision
from buildkit.rollout.manifests import inference_service, rollout_notes, rollout_objects
from buildkit.rollout.nginx import render_nginx
from buildkit.rollout.state import RolloutState, find_next_step
from buildkit.running.cluster import route_service
from buildkit.running.environment import RunningEnvironment, RunningService
from buildkit.running.yaml_text import render_yaml
from buildkit.services.labels import environment_labels
from buildkit.services.proxy import target_of
from buildkit.services.rollout import RunningRollout, VersionStatus, find_rollout
from buildkit.services.rollout_files import plan_of, render_configuration
from buildkit.services.start import check_checkout
from buildkit.tools.podman_objects import list_containers

_PAUSE = 10  # seconds between two looks of `watch`
_SHOWN = 10  # entries of the history


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Show, promote, take back or watch a rollout. Raises DefinitionError and BuildError."""
    options = _parse(arguments)
    with open_view(sys.stderr) as emit, open_planner(folder, emit) as planner:
        environment = load_environment(planner, options.environment, "--environment")
    rollout = find_rollout(environment, options.service)
    if options.what in _RENDERERS:
        sys.stdout.write(_RENDERERS[options.what](environment, rollout.service, rollout.load()))
        return 0
    check_checkout(environment, list_containers(environment_labels(environment)), folder)
    if options.what == "promote":
        rollout.promote(None if options.to is None else round(options.to * 10))
    elif options.what == "back":
        rollout.back()
    elif options.what == "watch":
        return watch_rollout(rollout, options.every, as_json=options.json)
    _print_status(rollout, rollout.judge(), as_json=options.json)
    return 0


def watch_rollout(rollout: RunningRollout, pause: float, *, as_json: bool) -> int:
    """Look at the figures every ``pause`` seconds until the candidate has its last step (0) or is taken back (1).

    Raises DefinitionError without steps, and BuildError if the proxy does not run.
    """
    if rollout.rollout.promote is None:
        raise DefinitionError("the rollout has no `promote`: nothing decides", hint="docs/rollout.md shows one")
    said = ""
    while True:
        state, decision = rollout.step()
        if decision.reason != said or decision.action is not RolloutAction.HOLD:
            _print_decision(rollout, state, decision, as_json=as_json)
        said = decision.reason
        if decision.action is RolloutAction.ABORT or state.ended:
            return 1
        if find_next_step(state, rollout.rollout) is None:  # also when another process, or a hand, was faster
            return 0
        time.sleep(pause)


def _print_decision(rollout: RunningRollout, state: RolloutState, decision: RolloutDecision, *, as_json: bool) -> None:
    share = state.share(rollout.rollout.candidate) / 10
    if as_json:
        line = {"action": decision.action, "reason": decision.reason, "candidate": rollout.rollout.candidate}
        sys.stdout.write(json.dumps({**line, "share": share, "time": time.time()}) + "\n")
    else:
        at = time.strftime("%H:%M:%S")
        sys.stdout.write(f"{at}  {decision.action}  {rollout.rollout.candidate} {share:g} %  {decision.reason}\n")
    sys.stdout.flush()


def _print_status(rollout: RunningRollout, decision: RolloutDecision, *, as_json: bool) -> None:
    state, versions = rollout.load(), rollout.status()
    if as_json:
        document = {
            "service": rollout.service.name,
            "versions": [asdict(version) for version in versions],
            "since": state.since,
            "decision": {"action": decision.action, "reason": decision.reason},
            "history": [{**asdict(entry), "shares": dict(entry.shares)} for entry in state.history],
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    columns = ("version", "users", "replicas", "in flight", "requests", "failed", "p95")
    print_table(rollout.service.name, columns, [_row(one) for one in versions], sys.stdout)
    sys.stdout.write(f"{decision.action}: {decision.reason}\n")
    for entry in state.history[-_SHOWN:]:
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.time))
        shares = ", ".join(f"{name} {share / 10:g} %" for name, share in entry.shares)
        sys.stdout.write(f"  {at}  {sanitize_line(f'{entry.action}: {shares} ({entry.reason})')}\n")


def _row(one: VersionStatus) -> tuple[str, ...]:
    p95 = "-" if one.p95_ms is None else f"{one.p95_ms:g} ms"
    waiting = f" + {one.queued}" if one.queued else ""
    return (
        f"{one.version} ({one.role})",
        f"{one.share:g} %",
        f"{one.healthy} of {one.replicas}",
        f"{one.in_flight}{waiting}",
        str(one.requests),
        str(one.failed),
        p95,
    )


def _haproxy(_: RunningEnvironment, service: RunningService, state: RolloutState) -> str:
    return render_configuration(service, state)


def _nginx(_: RunningEnvironment, service: RunningService, state: RolloutState) -> str:
    target, declared = target_of(service, state), plan_of(service).rollout
    shadow = next((pool for pool in target.pools if declared and pool.name == declared.shadow), None)
    answering = tuple(pool for pool in target.pools if pool is not shadow)
    return render_nginx(replace(target, pools=answering), shadow=shadow)


def _kubernetes(environment: RunningEnvironment, service: RunningService, state: RolloutState) -> str:
    routed = route_service(environment, service, state.shares)
    return render_yaml(*rollout_objects(routed), header=tuple(rollout_notes(routed)))


def _kserve(environment: RunningEnvironment, service: RunningService, state: RolloutState) -> str:
    try:
        return render_yaml(inference_service(route_service(environment, service, state.shares)))
    except ValueError as error:
        raise DefinitionError(str(error)) from None


_RENDERERS = {"haproxy": _haproxy, "nginx": _nginx, "kubernetes": _kubernetes, "kserve": _kserve}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("rollout")
    parser.add_argument(
        "what",
        choices=("status", "promote", "back", "watch", *_RENDERERS),
        help="show; give the candidate its next step; give the control everybody; follow the figures until the end; "
        "or print a configuration of the present state",
    )
    parser.add_argument("service", nargs="?", default="", metavar="SERVICE", help="default: the only one with versions")
    parser.add_argument("--environment", default="", metavar="NAME", help="of services.toml (default: its only one)")
    parser.add_argument("--to", type=_percent, metavar="PERCENT", help="with promote: this share, no step of the file")
    parser.add_argument(
        "--every", type=parse_positive, default=_PAUSE, metavar="SECONDS", help="of watch (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(list(arguments))
    if options.to is not None and options.what != "promote":
        parser.error("--to needs promote")
    return options


def _percent(text: str) -> float:
    try:
        share = float(text.removesuffix("%"))
    except ValueError:
        share = -1.0
    if not 0 <= share <= 100:
        raise argparse.ArgumentTypeError(f"must be per cent from 0 to 100, not {text!r}")
    return share
