"""Real proxies: a split that is even, sticky and grows; changes, a reload and a kill that lose no request."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path

import pytest

from buildkit.errors import DefinitionError
from buildkit.rollout.haproxy import VERSION_HEADER, render_haproxy, split_commands
from buildkit.rollout.haproxy_answers import SHOW_ANSWERS, check_version, parse_answers, parse_stat
from buildkit.rollout.nginx import render_nginx
from buildkit.rollout.proxied import ProxiedService, ProxyPool, ProxyServer
from buildkit.services.proxy import configure_anew
from tests.ports import take_port
from tests.rollout.buckets import choose_pool, find_bucket
from tests.rollout.proxies import AskSocket, Load, RunningProxy, ask_users, replicas_text, running
from tests.waiting import wait_until

pytestmark = pytest.mark.tools
USERS = [f"user-{number}" for number in range(2000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """Two replicas of `old`, one of `new`, and a service before them."""

    service: ProxiedService
    port: int
    ask: AskSocket
    proxy: RunningProxy


@pytest.fixture(scope="module")
def ports() -> Iterator[list[int]]:
    """Ports of three replicas that run: old-1, old-2, new-1; a fourth is free."""
    found = [take_port() for _ in range(4)]
    names = dict(zip(("old-1", "old-2", "new-1"), found, strict=False))
    with running("haproxy", replicas_text(names), *found[:3]):
        yield found


def make_service(ports: list[int], share: int, socket: Path, *, off: frozenset[str] = frozenset()) -> ProxiedService:
    def server(name: str, port: int) -> ProxyServer:
        return ProxyServer(name=name, address="127.0.0.1", port=port, enabled=name not in off)

    pools = (
        ProxyPool(name="old", servers=(server("old-1", ports[0]), server("old-2", ports[1]))),
        ProxyPool(name="new", servers=(server("new-1", ports[2]),), share=share),
    )
    return ProxiedService(
        name="app", listen="", pools=pools, by="header:X-User", salt="app", probe="/readyz", socket=str(socket)
    )


@pytest.fixture
def lab(ports: list[int]) -> Iterator[Lab]:
    folder = Path(tempfile.mkdtemp(prefix="bk-"))  # a socket's path is short
    listen, metrics = take_port(), take_port()
    service = replace(
        make_service(ports, 100, folder / "s"), listen=f"127.0.0.1:{listen}", metrics=f"127.0.0.1:{metrics}"
    )
    with running("haproxy", render_haproxy(service), listen) as proxy:
        yield Lab(service=service, port=listen, ask=AskSocket(folder / "s"), proxy=proxy)
    shutil.rmtree(folder)


def with_share(service: ProxiedService, share: int) -> ProxiedService:
    old, new = service.pools
    return replace(service, pools=(old, replace(new, share=share)))


def test_users_are_split_as_computed_and_those_of_a_version_stay(lab: Lab) -> None:
    at_ten = ask_users(lab.port, USERS)
    pools = lab.service.pools
    assert at_ten == [choose_pool(pools, find_bucket(user, salt="app")).name for user in USERS]
    assert ask_users(lab.port, USERS) == at_ten
    for command in split_commands(with_share(lab.service, 250)):
        assert lab.ask(command).strip() == ""
    at_quarter = ask_users(lab.port, USERS)
    moved = Counter(zip(at_ten, at_quarter, strict=True))
    assert moved["new", "old"] == 0
    assert moved["old", "new"] == pytest.approx(300, abs=80)


def test_twenty_thousand_users_are_split_evenly_and_independently_of_other_services() -> None:
    buckets = [find_bucket(f"user-{number}", salt="app") for number in range(20_000)]
    tenths = Counter(bucket // 100 for bucket in buckets)
    squares = sum((tenths[tenth] - 2000) ** 2 / 2000 for tenth in range(10))
    assert squares < 27.9  # χ² with 9 degrees of freedom: 0.1 % of fair splits are beyond
    others = [find_bucket(f"user-{number}", salt="other") for number in range(20_000)]
    both = sum(one < 100 and other < 100 for one, other in zip(buckets, others, strict=True))
    assert both == pytest.approx(200, abs=60)


def test_growth_takes_users_from_the_control_alone() -> None:
    users = range(1000)
    pools = [ProxyPool(name=name, servers=(), share=share) for name, share in (("a", 0), ("b", 100), ("c", 50))]
    before = [choose_pool(pools, bucket).name for bucket in users]
    pools[2] = replace(pools[2], share=400)
    after = [choose_pool(pools, bucket).name for bucket in users]
    assert {pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]} == {("a", "c")}


def test_a_hundred_changes_of_the_split_and_of_replicas_lose_no_request(lab: Lab) -> None:
    with Load(lab.port) as load:
        for number in range(100):
            for command in split_commands(with_share(lab.service, number * 10)):
                lab.ask(command)
            state = ("drain", "maint", "ready")[number % 3]
            lab.ask(f"set server old/old-2 state {state}")
            load.wait_for_answers(5)
    assert load.broken == []
    assert {status for status, _ in load.answers} == {200}
    assert sum(load.answers.values()) >= 500


def test_a_reload_loses_no_request_and_a_restart_restores_the_state(lab: Lab) -> None:
    changed = with_share(lab.service, 1000)
    with Load(lab.port) as load:
        load.wait_for_answers(50)
        text = render_haproxy(changed)
        lab.proxy.write(text)
        configure_anew(text, lab.ask, lab.proxy.reload)
        load.wait_for_answers(50)
    assert (load.broken, {status for status, _ in load.answers}) == ([], {200})
    for command in split_commands(with_share(lab.service, 0)):
        lab.ask(command)  # lost by a restart, for it is not written down
    lab.proxy.stop()
    lab.proxy.start(lab.port)
    assert set(ask_users(lab.port, USERS[:200])) == {"new"}


def test_requests_go_on_when_a_replica_is_killed_and_to_nothing_unhealthy(lab: Lab, ports: list[int]) -> None:
    with running("haproxy", replicas_text({"new-1": ports[3]}), ports[3]) as replica:
        old, new = lab.service.pools
        second = ProxyServer(name="new-2", address="127.0.0.1", port=ports[3])
        service = replace(lab.service, pools=(old, replace(new, servers=(*new.servers, second), share=1000)))
        lab.proxy.stop()
        lab.proxy.write(render_haproxy(service))
        lab.proxy.start(lab.port)
        with Load(lab.port) as load:
            load.wait_for_answers(100)
            replica.kill()
            load.wait_for_answers(300)
        assert (load.broken, {status for status, _ in load.answers}) == ([], {200})
        lab.ask("set server new/new-1 state maint; set server new/new-2 state maint")
        assert set(ask_users(lab.port, USERS[:100])) == {"old"}  # whom no replica of `new` could serve


def test_a_replica_counts_when_the_proxy_has_seen_it_serve(lab: Lab, ports: list[int]) -> None:
    old, new = lab.service.pools
    late = ProxyServer(name="late", address="127.0.0.1", port=ports[3], enabled=False)
    lab.proxy.stop()
    lab.proxy.write(render_haproxy(replace(lab.service, pools=(old, replace(new, servers=(late,), share=1000)))))
    lab.proxy.start(lab.port)
    assert parse_stat(lab.ask("show stat")).servers["late"].status == "MAINT"
    lab.ask("set server new/late state ready; set server new/late health down")
    assert parse_stat(lab.ask("show stat")).servers["late"].status == "DOWN"
    assert set(ask_users(lab.port, USERS[:100])) == {"old"}
    with running("haproxy", replicas_text({"late": ports[3]}), ports[3]):
        wait_until(lambda: parse_stat(lab.ask("show stat")).servers["late"].status == "UP")
        assert set(ask_users(lab.port, USERS[:100])) == {"new"}


def test_answers_are_counted_by_version_with_their_times(lab: Lab) -> None:
    before = time.time()
    versions = ask_users(lab.port, USERS[:500])
    # an answer is written down when it has gone out
    wait_until(lambda: len(list(parse_answers(lab.ask(SHOW_ANSWERS)))) >= len(versions))
    answers = list(parse_answers(lab.ask(SHOW_ANSWERS)))
    assert Counter(one.version for one in answers) == Counter(versions)
    assert all(before - 1 < one.time < time.time() + 1 and one.seconds < 5 and not one.failed for one in answers)
    pools = parse_stat(lab.ask("show stat")).pools
    assert {name: pool.requests for name, pool in pools.items()} == Counter(versions)
    assert (pools["old"].healthy, pools["new"].healthy, pools["old"].queued) == (2, 1, 0)


def test_a_proxy_that_is_too_old_is_refused(lab: Lab) -> None:
    check_version(lab.ask("show info"))
    with pytest.raises(DefinitionError, match=r"the proxy is HAProxy 2\.2: rollouts need 2\.6"):
        check_version("Name: HAProxy\nVersion: 2.2.9-2+deb11u6\n")
    with pytest.raises(DefinitionError, match="is HAProxy without a version"):
        check_version("")


def test_nginx_splits_users_too_keeps_them_and_copies_requests_to_a_shadow(ports: list[int], tmp_path: Path) -> None:
    listen, shadow_port = take_port(), take_port()
    copies = ProxyPool(name="copy", servers=(ProxyServer(name="copy-1", address="127.0.0.1", port=shadow_port),))
    service = replace(make_service(ports, 100, tmp_path / "s"), listen=f"127.0.0.1:{listen}")
    text = render_nginx(service, shadow=copies, folder=str(tmp_path))
    (tmp_path / "nginx.conf").write_text(text)
    checked = subprocess.run(
        ("nginx", "-t", "-c", tmp_path / "nginx.conf"), capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    counted = replicas_text({"copy-1": shadow_port}, stats=tmp_path / "c")
    with running("haproxy", counted, shadow_port), running("nginx", text, listen):
        at_ten = ask_users(listen, USERS)
        assert at_ten.count("new") == pytest.approx(200, abs=60)
        assert ask_users(listen, USERS[:500]) == at_ten[:500]
        rows = AskSocket(tmp_path / "c")("show stat").splitlines()
        frontend = next(row.split(",") for row in rows if row.startswith("copy-1,FRONTEND"))
        assert int(frontend[rows[0].split(",").index("req_tot")]) >= 2000
    quarter = render_nginx(with_share(service, 250), folder=str(tmp_path))
    with running("nginx", quarter, listen):
        moved = Counter(zip(at_ten, ask_users(listen, USERS), strict=True))
        assert moved["new", "old"] == 0
        assert moved["old", "new"] > 200


def test_nginx_knows_users_by_cookies_whose_names_are_no_names_of_variables(ports: list[int], tmp_path: Path) -> None:
    listen = take_port()
    service = replace(make_service(ports, 500, tmp_path / "s"), listen=f"127.0.0.1:{listen}")
    named = render_nginx(replace(service, by="cookie:my-id"), folder=str(tmp_path))
    with running("nginx", named, listen):
        split = ask_users(listen, USERS[:400], "Cookie: other-my-id=x; my-id=")
        assert split.count("new") == pytest.approx(200, abs=50)
        assert ask_users(listen, USERS[:400], "Cookie: my-id=") == split
        assert len(set(ask_users(listen, USERS[:20], "X-None: "))) == 1  # known by their address
    with running("nginx", render_nginx(replace(service, by="cookie"), folder=str(tmp_path)), listen):
        for _ in range(10):
            connection = HTTPConnection("127.0.0.1", listen, timeout=60)
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            cookie, version = answer.headers["Set-Cookie"].partition(";")[0], answer.headers[VERSION_HEADER]
            assert set(ask_users(listen, [cookie], "Cookie: ")) == {version}
            connection.close()
