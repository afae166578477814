"""`nox -s monitor`: what containers use as metrics for Prometheus, over HTTP, into a file, or sent by OTLP."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from buildkit.cli.options import make_parser, parse_positive
from buildkit.declare.services import FILE
from buildkit.declare.services_file import load_services
from buildkit.errors import DefinitionError
from buildkit.inspection.checkout_watch import CheckoutWatch
from buildkit.inspection.container_watch import ContainerWatch, WatchSources
from buildkit.inspection.feed_writer import write_feeds
from buildkit.inspection.findings_file import FindingsFile
from buildkit.inspection.live_monitor import MOST, Extra, LiveMonitor, remember_uses
from buildkit.inspection.page_sections import list_findings
from buildkit.inspection.service_watch import ServiceWatch, find_published
from buildkit.inspection.watch_scope import load_scope
from buildkit.monitor.exporter import PORT, MonitorServer, Route
from buildkit.monitor.metrics import render_metrics
from buildkit.monitor.routes import open_routes
from buildkit.report.view import open_view
from buildkit.tools.cgroups import CgroupReader
from buildkit.tools.gpu_meter import open_gpu_meter
from buildkit.tools.scrape import format_address

_PAUSE = 10.0  # seconds until a new container is seen, where others come and go all the time
_LISTEN = f"127.0.0.1:{PORT}"
_ADDRESS = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9.]+|localhost)):([0-9]{1,5})")


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Serve metrics until Ctrl-C or SIGTERM. Raises DefinitionError, BuildError, MissingTool and ToolError."""
    options = _parse(arguments)
    with _open_monitor(folder, options) as monitor:
        if options.print:
            monitor.start()
            sys.stdout.write(render_metrics(monitor.state().families))
            return 0
        try:
            with ExitStack() as stack:
                if options.push:
                    stack.enter_context(_pushing(monitor))
                if options.feed:
                    write_feeds(monitor, options.feed)
                else:
                    _serve(monitor, options.listen)
        except KeyboardInterrupt:
            pass  # its ordinary end
    return 0


@contextmanager
def _open_monitor(folder: Path, options: argparse.Namespace) -> Iterator[LiveMonitor]:
    with open_view(sys.stderr) as emit:
        scope = load_scope(folder, emit)
    checkout = CheckoutWatch(folder, scope.stages, publish=lambda value: monitor.publish("builds", value))
    with open_gpu_meter(health=True) as measure:
        measure_now, uses = remember_uses(measure)
        sources = WatchSources(
            find_running=scope.finder(every=options.all),
            reader=CgroupReader(),
            measure_gpus=measure_now,
            clock=time.monotonic,
            wall=time.time,
            expected=checkout.expected,
        )
        extras: dict[str, Extra] = {"builds": checkout.ask}
        monitor = LiveMonitor(
            watch=ContainerWatch(sources=sources, least=_PAUSE),
            uses=uses,
            stages=scope.stages,
            extras=extras,
            most=options.most,
        )
        if options.findings:
            extras["findings"] = FindingsFile(
                options.findings, lambda value: monitor.publish("findings", list_findings(value))
            ).ask
        declared = _find_declared(folder, scope.stages.values())
        services = ServiceWatch(
            services=declared | dict(options.service),
            publish=lambda value: monitor.publish("services", value),
            declared=declared.keys() - dict(options.service).keys(),
        )
        with monitor.noticing(), services.running():
            yield monitor


def _find_declared(folder: Path, stages: Iterable[str]) -> dict[str, str]:
    return find_published(load_services(folder, frozenset(stages))) if (folder / FILE).is_file() else {}


def _serve(monitor: LiveMonitor, address: tuple[str, int]) -> None:
    with ExitStack() as stack:
        stack.enter_context(monitor.running())  # first: what it cannot ask ends this session, and not a thread of it
        routes = stack.enter_context(open_routes(monitor.state))
        server = stack.enter_context(_listen(monitor, address, routes))
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        sys.stdout.write(f"http://{host}:{server.port}/metrics\n")
        sys.stdout.flush()
        server.serve_forever()


def _listen(monitor: LiveMonitor, address: tuple[str, int], routes: Mapping[str, Route]) -> MonitorServer:
    try:
        return MonitorServer(address, monitor.state, routes)
    except OSError as error:
        raise DefinitionError(
            f"{address[0]}:{address[1]}: {error.strerror or error}", hint="--listen 127.0.0.1:0 takes any free port"
        ) from error


@contextmanager
def _pushing(monitor: LiveMonitor) -> Iterator[None]:
    try:
        from buildkit.inspection.metric_push import open_push
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("opentelemetry"):
            raise
        raise DefinitionError("--push needs OpenTelemetry's SDK", hint="pip install 'xoe-buildkit[tracing]'") from error
    with open_push(monitor, os.environ):
        yield


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("monitor")
    parser.description = "Serve what running containers use as metrics. Changes nothing."
    parser.add_argument("--all", action="store_true", help="all containers of this user, not only this project's")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--listen", type=_parse_address, default=_LISTEN, metavar="ADDRESS:PORT",
        help="where to answer (default: %(default)s)",
    )  # fmt: skip
    how.add_argument(
        "--feed",
        type=Path,
        metavar="FOLDER",
        help="listen nowhere; write the figures for the container of the stage monitor",
    )
    how.add_argument("--print", action="store_true", help="print the metrics once")
    parser.add_argument("--push", action="store_true", help="send metrics where OTEL_EXPORTER_OTLP_ENDPOINT says, too")
    parser.add_argument("--findings", type=Path, metavar="FILE", help="what `audit-running` writes")
    parser.add_argument(
        "--service", type=_parse_service, action="append", default=[], metavar="NAME=URL",
        help="show a service on the page, by its own metrics; may be repeated (default: those of services.toml)",
    )  # fmt: skip
    parser.add_argument(
        "--most", type=parse_positive, default=MOST, metavar="N",
        help="containers with metrics; others are counted (default: %(default)s)",
    )  # fmt: skip
    return parser.parse_args(list(arguments))


def _parse_service(text: str) -> tuple[str, str]:
    name, _, url = text.partition("=")
    if not name or not re.fullmatch(r"https?://\S+", url) or format_address(url) == format_address(""):
        raise argparse.ArgumentTypeError(  # without the text, which may hold a password
            "must be a name and an address, such as app=http://127.0.0.1:8000/metrics"
        )
    return name, url


def _parse_address(text: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(text)
    if not found or int(found[3]) > 65_535:
        raise argparse.ArgumentTypeError(f"must be an address of this host and a port, such as {_LISTEN}, not {text!r}")
    return found[1] or found[2], int(found[3])
