"""Bring a running proxy to a state: users' shares, replicas in and out, and a configuration that a restart restores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from buildkit.errors import BuildError
from buildkit.rollout.haproxy import find_configuration, split_commands
from buildkit.rollout.haproxy_answers import ProxyLoad, check_version, parse_stat
from buildkit.rollout.proxied import ProxiedService
from buildkit.rollout.state import RolloutState
from buildkit.running.environment import RunningService
from buildkit.services.rollout_files import plan_of
from buildkit.tools.haproxy import ask_proxy, reload_proxy

Ask = Callable[[str], str]
_PAUSE = 0.1
_RELOAD_SECONDS, _AGAIN_SECONDS = 20.0, 2.0
_SEEN_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveProxy:
    """A proxy that runs: how to ask it, and how to make it read its configuration again."""

    ask: Ask
    reload: Callable[[], None]

    @classmethod
    def of(cls, service: RunningService) -> LiveProxy:
        """Return the proxy of a service in its container."""
        container = service.container.name
        return cls(ask=lambda command: ask_proxy(container, command), reload=lambda: reload_proxy(container))

    def load(self) -> ProxyLoad:
        """Return what versions and replicas do. Raises BuildError if the proxy does not run."""
        return parse_stat(self.ask("show stat"))


def target_of(service: RunningService, state: RolloutState) -> ProxiedService:
    """Return what a proxy is to do in a state."""
    return plan_of(service).proxied(state, service.container.networks[0].addresses)


def configure_anew(text: str, ask: Ask, reload: Callable[[], None]) -> None:
    """Make a proxy take its changed configuration without ending connections. Raises BuildError if it does not."""
    command, end = find_configuration(text)
    started, asked = time.monotonic(), 0.0
    while end not in ask(command):
        now = time.monotonic()
        if now - started > _RELOAD_SECONDS:
            raise BuildError("the proxy does not take its configuration", hint="podman logs shows why")
        if now - asked > _AGAIN_SECONDS:  # a signal that comes while it starts is lost
            reload()
            asked = now
        time.sleep(_PAUSE)


def apply_state(proxy: LiveProxy, target: ProxiedService) -> None:
    """Bring shares and replicas of a running proxy to a state; what it knows already is left alone.

    A replica that comes gets requests when the proxy has seen it serve. Raises BuildError, also for a HAProxy that is
    too old.
    """
    check_version(proxy.ask("show info"))
    servers = proxy.load().servers
    for pool in target.pools:
        for server in pool.servers:
            known = servers.get(server.name)
            if known is None:
                raise BuildError(f"the proxy knows no replica {server.name}", hint="nox -s up configures it anew")
            out = known.status in ("MAINT", "DRAIN")
            if server.enabled and out:
                enable(proxy, pool.name, server.name)
            elif not server.enabled and not out:
                proxy.ask(f"set server {pool.name}/{server.name} state maint")
    for command in split_commands(target):
        proxy.ask(command)


def enable(proxy: LiveProxy, pool: str, name: str) -> None:
    """Let a replica have requests as soon as the proxy's own check of it passes."""
    proxy.ask(f"set server {pool}/{name} state ready; set server {pool}/{name} health down")


def wait_until_seen(proxy: LiveProxy, name: str, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Wait until the proxy's check of a replica passes; return whether it did in time."""
    for _ in _tries(_SEEN_SECONDS):
        if proxy.load().servers[name].status == "UP":
            return True
        sleep(_PAUSE)
    return False


def drain(proxy: LiveProxy, pool: str, name: str, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Give a replica nothing new, wait until it has answered everything, at most so long, and take it out."""
    proxy.ask(f"set server {pool}/{name} state drain")
    for _ in _tries(seconds):
        if proxy.load().servers[name].in_flight == 0:
            break
        sleep(_PAUSE)
    proxy.ask(f"set server {pool}/{name} state maint")


def _tries(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
