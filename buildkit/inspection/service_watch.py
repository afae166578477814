"""What services say of themselves, for the monitor's page: each is asked again and again, in a thread."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from buildkit.declare.ports import LOOPBACK, PublishedPort
from buildkit.declare.services import Services
from buildkit.errors import BuildkitError
from buildkit.monitor.page.service_figures import ServiceHistory, read_figures
from buildkit.tools.scrape import scrape

_EVERY = 5.0  # seconds


@dataclass(slots=True, kw_only=True)
class ServiceWatch:
    """Services by name, with the addresses of their metrics. ``publish`` is told plain values of all of them.

    Those of ``declared`` are shown from their first answer on: a service that is declared need not run. ``clock`` is
    never set back, ``wall`` tells the time of day.
    """

    services: Mapping[str, str]
    publish: Callable[[dict[str, Any]], None]
    declared: Collection[str] = ()
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    fetch: Callable[[str], str] = scrape
    _answered: set[str] = field(default_factory=set)
    _histories: dict[str, ServiceHistory] = field(default_factory=dict)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look every five seconds until the block ends; without services, never."""
        ended = threading.Event()
        thread = threading.Thread(target=self._run, args=(ended,), name="services", daemon=True)
        if self.services:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            if self.services:
                thread.join(_EVERY)

    def look(self) -> None:
        """Ask all services once, and publish what they say; of one that does not answer, why."""
        figures = [self._look_at(name, url) for name, url in sorted(self.services.items())]
        shown = [one for one in figures if one["name"] in self._answered or one["name"] not in self.declared]
        self.publish({"time": self.wall(), "services": shown})

    def _look_at(self, name: str, url: str) -> dict[str, Any]:
        history = self._histories.setdefault(name, ServiceHistory(name=name))
        try:
            values = read_figures(self.fetch(url))
        except BuildkitError as error:
            return history.fail(error.message)
        self._answered.add(name)
        return history.look(self.clock(), values)

    def _run(self, ended: threading.Event) -> None:
        while not ended.is_set():
            self.look()
            ended.wait(_EVERY)


def find_published(services: Services) -> dict[str, str]:
    """Return where declared services answer with metrics on this host, by name: at a port that they publish."""
    return {
        service.name: f"http://{_reached(port)}:{port.host}{service.metrics.path}"
        for service in services.services
        if service.metrics
        for port in service.ports
        if port.number == service.metrics.port and port.host and port.protocol == "tcp"
    }


def _reached(port: PublishedPort) -> str:
    return LOOPBACK if ipaddress.ip_address(port.address).is_unspecified else port.where
