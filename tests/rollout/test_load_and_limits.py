"""What the scaler reads: the proxy's figures, CPUs, metrics of the service, and what the host bears."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from buildkit.declare.rollout import Scale, ScaleRate
from buildkit.declare.stage import Running
from buildkit.gpu.use import GpuProcessUse, GpuUse
from buildkit.rollout.haproxy_answers import PoolLoad, ProxyLoad
from buildkit.rollout.hpa import LoadSample
from buildkit.services.host_limits import HostCapacity, count_bearable, find_capacity
from buildkit.services.load import CpuMeter, GpuMeter, cpu_sample, gpu_sample, metric_samples, proxy_samples, sum_metric
from buildkit.services.scaler import make_bounds

SCALE = Scale(
    least=1,
    most=8,
    targets=(("in-flight", 8.0), ("queue", 2.0), ("metric:waiting", 3.0)),
    up=ScaleRate(window=0, replicas=4, percent=100),
    down=ScaleRate(window=300, percent=100, select="min"),
)
PAGE = """# TYPE waiting gauge
waiting{queue="a"} 2
waiting{queue="b"} 1.5e0
waiting_total 99
"""


def load(in_flight: int, queued: int) -> ProxyLoad:
    pool = PoolLoad(healthy=1, in_flight=in_flight, queued=queued, requests=9)
    return ProxyLoad(pools={"only": pool}, servers={})


def test_what_the_proxy_saw_is_the_mean_of_its_looks() -> None:
    samples = proxy_samples(SCALE, [load(4, 6), load(8, 0)], "only")
    assert samples == [LoadSample(total=9.0, target=8.0), LoadSample(total=3.0, target=2.0)]
    assert proxy_samples(SCALE, [], "only") == []
    assert proxy_samples(SCALE, [load(4, 6)], "gone") == []


def test_metrics_of_the_service_are_summed_and_count_only_if_every_replica_has_them() -> None:
    assert sum_metric(PAGE, "waiting") == 3.5
    assert sum_metric(PAGE, "other") is None
    assert metric_samples(SCALE, [PAGE, PAGE]) == [LoadSample(total=7.0, target=3.0)]
    assert metric_samples(SCALE, [PAGE, ""]) == []
    assert metric_samples(SCALE, []) == []


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-inf", "1e999", "many", "\x1b[31m"])
def test_a_metric_that_is_no_number_is_none_and_changes_nothing(value: str) -> None:
    page = f'waiting 2\nwaiting{{queue="a"}} {value}\n'
    assert sum_metric(page, "waiting") is None
    assert metric_samples(SCALE, [PAGE, page]) == []


def test_metrics_whose_sum_is_no_number_change_nothing() -> None:
    assert metric_samples(SCALE, ["waiting 1.5e308\n"] * 2) == []


def test_cpus_in_use_are_known_from_the_second_look_on() -> None:
    clock, used = [0.0], {"a": 0.0, "b": 10.0, "of-another-version": 5.0}
    meter = CpuMeter(now=lambda: clock[0], read=lambda name: used[name])
    assert meter.measure(["a"]) is None
    clock[0], used["a"] = 10.0, 15.0
    assert meter.measure(["a", "b"]) == 3.0  # one and a half, and as much for the one that has just come
    assert meter.measure(["of-another-version"]) is None
    clock[0], used["a"] = 20.0, 30.0
    assert meter.measure(["a"]) == 1.5
    clock[0], used["a"] = 30.0, 1.0
    assert meter.measure(["a"]) is None, "a container that was made anew"
    assert cpu_sample(50.0, 3.0, 2.0) == [LoadSample(total=3.0, target=1.0)]
    assert cpu_sample(50.0, None, 2.0) == []


def test_the_gpus_of_replicas_are_those_of_their_programs_the_mean_of_all_looks() -> None:
    def use(**shares: float | None) -> GpuUse:
        programs = (GpuProcessUse(pid=pids[name], utilisation=share) for name, share in shares.items())
        return GpuUse(index=0, uuid="GPU-0", processes=tuple(programs))

    pids = {"a": 1, "b": 2, "other": 3}
    names = {pid: f"id of {name}" for name, pid in pids.items()}
    uses: list[tuple[GpuUse, ...]] = []
    meter = GpuMeter(measure=lambda: uses.pop(0), find_container=names.__getitem__, find_id="id of {}".format)

    def take(containers: list[str], *looks: tuple[GpuUse, ...]) -> float | None:
        uses.extend(looks)
        meter.begin()
        for _ in looks:
            meter.look()
        return meter.read(containers)

    looks = (use(a=0.9, b=0.5, other=1.0),), (use(a=0.7, b=None),)
    assert take(["a", "b"], *looks) == pytest.approx(1.4)
    assert take(["a", "b", "just-come"], looks[0]) == pytest.approx(2.1)
    assert take(["a"], (use(a=0.5), replace(use(a=1.0), uuid="GPU-1"))) == 1.5
    assert take(["a"], (use(a=None),), ()) is None
    assert take(["a"]) is None
    assert gpu_sample(50.0, 1.5, 2) == [LoadSample(total=1.5, target=1.0)]
    assert gpu_sample(50.0, None, 1) == []


def test_the_host_bears_what_fits_beside_everything_else() -> None:
    host = HostCapacity(memory=8 << 30, cpus=4)
    replica, other = Running(memory="2g"), Running(memory="1g")
    assert count_bearable(replica, [other], host) == (3, "memory (2g each of 8192 MiB)")
    assert count_bearable(Running(memory="1g", cpus=1.5), [other], host) == (2, "CPUs (1.5 each of 4)")
    assert count_bearable(replica, [Running(memory="9g")], host)[0] == 0
    assert count_bearable(Running(memory="512m"), [Running(memory="4194304k")], host)[0] == 8
    assert count_bearable(Running(memory="1073741824"), [], host)[0] == 8


def test_this_host_is_as_the_system_says() -> None:
    found = find_capacity()
    assert found.memory == pytest.approx(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), rel=0.05)
    assert 1 <= found.cpus <= (os.cpu_count() or 1)


def test_a_declaration_is_hpas_bounds_on_this_host() -> None:
    bounds = make_bounds(SCALE, 5)
    assert (bounds.least, bounds.most, bounds.up.select, bounds.down.select) == (1, 5, "Max", "Min")
    assert [(one.kind, one.value, one.period) for one in bounds.up.policies] == [("Pods", 4, 15), ("Percent", 100, 15)]
    assert make_bounds(SCALE, 0).most == 1  # what runs already is not ended for that
