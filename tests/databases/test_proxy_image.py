"""The image `proxy`: the HAProxy of Debian 13 takes our configuration and commands, confined as `up` confines it."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.errors import BuildError
from buildkit.rollout.haproxy import render_haproxy
from buildkit.rollout.haproxy_answers import check_version, parse_stat
from buildkit.rollout.proxied import METRICS_PORT, ProxiedService, ProxyPool, ProxyServer
from buildkit.running.replicas import CONFIGURATION
from buildkit.services.proxy import LiveProxy, apply_state, configure_anew
from buildkit.tools.haproxy import ask_proxy, fetch_page, reload_proxy
from tests.databases.places import CONFINED, Container, build_image
from tests.reference.engine import Podman

pytestmark = [pytest.mark.tools, pytest.mark.network]


def make_service(share: int, *, enabled: bool) -> ProxiedService:
    """A service whose replicas are the page of the proxy's own metrics."""
    servers = {
        name: ProxyServer(name=f"{name}-1", address="127.0.0.1", port=METRICS_PORT, enabled=enabled or name == "old")
        for name in ("old", "new")
    }
    pools = (
        ProxyPool(name="old", servers=(servers["old"],)),
        ProxyPool(name="new", servers=(servers["new"],), share=share),
    )
    return ProxiedService(name="app", listen="8000", pools=pools, by="cookie", probe="/metrics")


def test_the_proxy_runs_confined_and_takes_commands(
    podman: Podman, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in podman.env.items():
        monkeypatch.setenv(key, value)
    image = build_image(podman, "proxy", tmp_path_factory)
    (tmp_path / "run").mkdir(mode=0o755)
    file, name = tmp_path / "run/haproxy.cfg", f"proxy-{tmp_path_factory.getbasetemp().name}"
    file.write_text(render_haproxy(make_service(100, enabled=False)))
    mount = f"--volume={tmp_path / 'run'}:{CONFIGURATION}:ro"
    podman("run", "--detach", f"--name={name}", "--network=none", *CONFINED, mount, image.id)
    try:
        container = Container(podman=podman, name=name, password="")
        container.wait()
        check_version(ask_proxy(name, "show info"))
        live = LiveProxy(ask=lambda command: ask_proxy(name, command), reload=lambda: reload_proxy(name))
        assert {one: server.status for one, server in live.load().servers.items()} == {"old-1": "UP", "new-1": "MAINT"}
        apply_state(live, make_service(250, enabled=True))
        assert "<250>" in ask_proxy(name, "get var proc.edge_1")
        assert parse_stat(ask_proxy(name, "show stat")).servers["new-1"].status in ("DOWN", "UP")  # until it is checked
        file.write_text(text := render_haproxy(make_service(500, enabled=True)))
        configure_anew(text, live.ask, live.reload)
        assert "<500>" in ask_proxy(name, "get var proc.edge_1")
        page = fetch_page(name, f"127.0.0.1:{METRICS_PORT}", "/metrics")
        assert 'haproxy_backend_active_servers{proxy="old"} 1' in page
        with pytest.raises(BuildError, match="the proxy refuses `set server old/none state ready`: No such server"):
            ask_proxy(name, "set server old/none state ready")
        podman("stop", "--time=20", name)
        assert container.state == "exited"
    finally:
        podman("rm", "--force", "--time=0", name)
    with pytest.raises(BuildError, match=f"the proxy {name} does not answer"):
        ask_proxy(name, "show info")
