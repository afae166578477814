"""The configuration of HAProxy, as the real program reads it, and what its runtime commands say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from buildkit.rollout.haproxy import render_haproxy, split_commands
from buildkit.rollout.proxied import ProxiedService, ProxyLimits, ProxyPool, ProxyServer

POOLS = (
    ProxyPool(
        name="2026-11-01",
        servers=(
            ProxyServer(name="old-1", address="127.0.0.1", port=8001),
            ProxyServer(name="old-2", address="127.0.0.1", port=8002, enabled=False),
        ),
    ),
    ProxyPool(name="new", servers=(ProxyServer(name="new-1", address="127.0.0.1", port=8003),), share=100),
    ProxyPool(name="other", servers=(ProxyServer(name="other-1", address="127.0.0.1", port=8004),), share=50),
)


def service(*, by: str = "address", pools: tuple[ProxyPool, ...] = POOLS) -> ProxiedService:
    return ProxiedService(
        name="app", listen="127.0.0.1:8000", pools=pools, by=by, salt="app", probe="/readyz", metrics="127.0.0.1:8405"
    )


@pytest.mark.tools
@pytest.mark.parametrize("by", ["address", "cookie", "cookie:sid", "header:X-User"])
def test_haproxy_accepts_the_configuration(by: str, tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(render_haproxy(service(by=by)))
    ended = subprocess.run(("haproxy", "-c", "-f", path), capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_replicas_that_do_not_run_are_there_in_maintenance() -> None:
    lines = render_haproxy(service()).splitlines()
    assert "    server old-1 127.0.0.1:8001 check inter 1s fall 5 rise 1" in lines
    assert "    server old-2 127.0.0.1:8002 check inter 1s fall 5 rise 1 disabled" in lines
    assert "    use_backend new if { var(txn.bucket),sub(proc.edge_1) lt 0 } { nbsrv(new) gt 0 }" in lines


def test_one_version_needs_no_user_and_limits_apply_to_each_replica() -> None:
    one = ProxiedService(name="app", listen="8000", pools=POOLS[:1], limits=ProxyLimits(at_once=10, queue_seconds=7))
    text = render_haproxy(one)
    assert "txn.user" not in text
    assert "use_backend" not in text
    assert text.count("maxconn 10") == 2
    assert "timeout queue 7s" in text
    assert "default_backend 2026-11-01" in text


def test_the_split_is_changed_by_one_number_a_version() -> None:
    assert split_commands(service()) == (
        "experimental-mode on; set var proc.edge_1 int(100)",
        "experimental-mode on; set var proc.edge_2 int(150)",
    )
    assert "    set-var proc.edge_2 int(150)" in render_haproxy(service()).splitlines()


def test_shares_over_a_thousand_are_refused() -> None:
    too_much = ProxyPool(name="new", servers=(), share=1001)
    with pytest.raises(ValueError, match="add up to more than 100 %"):
        render_haproxy(service(pools=(POOLS[0], too_much)))
