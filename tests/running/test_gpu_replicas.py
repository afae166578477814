"""Replicas of a service, and their GPUs."""

from __future__ import annotations

import pytest

from buildkit.build.gpu_environment import with_counted_gpus
from buildkit.declare.gpu_request import GpuRequest
from buildkit.declare.services_file import parse_services
from buildkit.errors import DefinitionError
from buildkit.gpu.allocation import Grant, allocate
from buildkit.gpu.eligibility import WantedGpus
from buildkit.rollout.state import begin
from buildkit.running.environment import RunningEnvironment, make_environment
from buildkit.running.flags import ContainerSpec
from buildkit.services.replicas import with_fewest
from tests.gpu.gpuhosts import gpu, host
from tests.running.test_environment import describe

GPUS = ("GPU-00000000-0000-4000-8000-000000000000", "GPU-00000001-0000-4000-8000-000000000000")
TEXT = """
[services.app]
stage = "redis"
ports = ["8000"]
{}
[services.user]
stage = "redis"
depends-on = {{ app = "healthy" }}
[environments.t]
services = ["app", "user"]
"""


def made(keys: str) -> RunningEnvironment:
    services = parse_services(TEXT.format(keys), stages=("redis", "proxy"))
    return make_environment(services, "t", stage, project="x")


def stage(name: str) -> ContainerSpec:
    return describe("redis" if name == "proxy" else name)


def asked(environment: RunningEnvironment) -> dict[str, GpuRequest | None]:
    return {one.name: one.container.gpu for one in environment.services}


def test_one_replica_on_each_gpu_has_its_part_of_the_request_and_the_proxy_none() -> None:
    counted = made('replicas = "per-gpu"\ngpu = { count = 2, memory = "8g", share = "time-slice" }')
    each = GpuRequest(memory="8g", share="time-slice", apart="app")
    assert asked(counted) == {"app-1": each, "app-2": each, "app": None, "user": None}
    named = made(f'replicas = "per-gpu"\ngpu = {{ devices = ["{GPUS[0]}", "{GPUS[1]}"] }}')
    assert [one.devices for one in asked(named).values() if one] == [(GPUS[0],), (GPUS[1],)]
    app = counted.get("app")
    assert [port.number for port in app.container.ports] == [8000]
    assert {one.service for one in app.depends_on} == {"app-1", "app-2"}
    assert app.proxied is not None
    assert app.proxied.least == 2
    state = with_fewest(app.proxied, begin(app.proxied.split, 0.0))
    (pool,) = app.proxied.proxied(state, app.container.networks[0].addresses).pools
    assert [(server.name, server.enabled) for server in pool.servers] == [("app-1", True), ("app-2", True)]


def test_number_of_replicas_each_have_the_whole_request() -> None:
    environment = made("replicas = 3\ngpu = { count = 2 }")
    assert [one for one in asked(environment).values() if one] == [GpuRequest(count=2)] * 3
    assert asked(made("replicas = 2")) == {"app-1": None, "app-2": None, "app": None, "user": None}


def test_replicas_that_may_share_still_have_a_gpu_each() -> None:
    request = GpuRequest(share="mps", apart="app")
    others = GpuRequest(share="mps")
    wanted = [WantedGpus(container=name, request=request, environment="x-t") for name in ("app-1", "app-2")]
    third = WantedGpus(container="other", request=others, environment="x-t")
    found = allocate((*wanted, third), host(gpu(0), gpu(1)))
    given = [one.uuids for one in found.values() if isinstance(one, Grant)]
    assert len(given) == 3
    assert given[0] != given[1]
    more = allocate((*wanted, WantedGpus(container="app-3", request=request, environment="x-t")), host(gpu(0), gpu(1)))
    assert sum(isinstance(one, Grant) for one in more.values()) == 2


def test_all_gpus_are_those_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    services = parse_services(TEXT.format('replicas = "per-gpu"\ngpu = { count = "all" }'), stages=("redis", "proxy"))
    with pytest.raises(DefinitionError, match="the number of GPUs is only known on the host that starts it"):
        make_environment(services, "t", stage, project="x")
    monkeypatch.setattr("buildkit.build.gpu_environment.find_gpu_host", lambda: host(gpu(0), gpu(1), gpu(2)))
    environment = make_environment(with_counted_gpus(services, "t", stage), "t", stage, project="x")
    assert sum(one is not None for one in asked(environment).values()) == 3


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ('replicas = "per-gpu"', "`services.app.replicas`: asks for no GPU"),
        ('replicas = "per-gpu"\ngpu = "none"', "`services.app.replicas`: asks for no GPU"),
        ("replicas = 2\nscale = { min = 1, max = 2, target = { in-flight = 2 } }", "conflicts with `scale`"),
        ('replicas = 2\nvolumes = { a = "/a" }', "replicas would write one volume at once"),
        ("replicas = 0", "services.app.replicas"),
        ('replicas = "each"', "services.app.replicas"),
    ],
)
def test_contradictions_are_refused(keys: str, what: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        made(keys)
    assert what in str(raised.value)
