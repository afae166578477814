"""Which devices a request gets: never one exclusive device twice, and reasons that name device, wish and fact."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from gpuhosts import BUSY, GIB, divided, gpu, host, uuid
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit.declare.gpu_request import GpuRequest
from buildkit.gpu.allocation import Grant, Refusal, allocate
from buildkit.gpu.eligibility import HeldDevice, WantedGpus, driver_fits
from buildkit.gpu.host_devices import GpuHost

TWO = host(gpu(0), gpu(1))


def wanted(name: str, environment: str = "x-production", **request: object) -> WantedGpus:
    return WantedGpus(container=name, environment=environment, request=GpuRequest(**request))


def held(number: int, container: str = "x-other", share: str = "exclusive", environment: str = "") -> HeldDevice:
    return HeldDevice(uuid=uuid(number), container=container, share=share, environment=environment)


def choose(request: GpuRequest, on: GpuHost, others: tuple[HeldDevice, ...] = ()) -> Grant | Refusal:
    return allocate((WantedGpus(container="", request=request),), on, others)[""]


def names(found: Grant | Refusal) -> tuple[str, ...]:
    assert isinstance(found, Grant), found
    return found.names


def texts(found: Grant | Refusal) -> list[str]:
    assert isinstance(found, Refusal), found
    return [reason.text for reason in found.reasons]


def test_two_services_never_get_the_same_exclusive_gpu() -> None:
    found = allocate((wanted("a"), wanted("b"), wanted("c")), TWO)
    assert [names(found[name]) for name in "ab"] == [(f"nvidia.com/gpu={uuid(0)}",), (f"nvidia.com/gpu={uuid(1)}",)]
    assert texts(found["c"]) == [
        f"{uuid(0)} (0, NVIDIA H200): a GPU that it may have wanted, it goes to a",
        f"{uuid(1)} (1, NVIDIA H200): a GPU that it may have wanted, it goes to b",
    ]


def test_device_of_a_running_container_goes_to_nobody_else() -> None:
    assert names(choose(GpuRequest(), TWO, (held(0),))) == (f"nvidia.com/gpu={uuid(1)}",)
    assert texts(choose(GpuRequest(devices=("0",)), TWO, (held(0),))) == [
        f"{uuid(0)} (0, NVIDIA H200): an exclusive GPU wanted, the container x-other has it (exclusive)"
    ]


def test_service_that_runs_keeps_its_device_although_its_program_fills_it() -> None:
    full = host(gpu(0), gpu(1, free=GIB))
    found = allocate((wanted("a", memory="16g"), wanted("b", memory="16g")), full, (held(1, "b"),))
    assert [names(found[name]) for name in "ab"] == [(f"nvidia.com/gpu={uuid(0)}",), (f"nvidia.com/gpu={uuid(1)}",)]


def test_a_service_that_has_a_choice_leaves_the_only_device_of_another() -> None:
    mixed = host(gpu(0, memory=10 * GIB, free=10 * GIB), gpu(1))
    found = allocate((wanted("any", devices=()), wanted("big", memory="16g")), mixed)
    assert names(found["big"]) == (f"nvidia.com/gpu={uuid(1)}",)
    older = host(gpu(0), gpu(1, memory=200 * GIB, free=200 * GIB, capability="8.0"))
    found = allocate((wanted("first"), wanted("new", capability="9.0")), older)
    assert names(found["new"]) == (f"nvidia.com/gpu={uuid(0)}",)
    assert names(found["first"]) == (f"nvidia.com/gpu={uuid(1)}",)


def test_time_slices_are_shared_with_each_other_and_with_nobody_else() -> None:
    found = allocate((wanted("a", share="time-slice"), wanted("b", share="time-slice"), wanted("c")), TWO)
    assert names(found["a"]) == names(found["b"]) != names(found["c"])
    running = (held(0, share="time-slice"), held(1))
    assert names(choose(GpuRequest(share="time-slice"), TWO, running)) == (f"nvidia.com/gpu={uuid(0)}",)
    assert "a time slice wanted, the container x-other has it (mps)" in " ".join(
        texts(choose(GpuRequest(share="time-slice"), TWO, (held(0, share="mps"), held(1))))
    )


def test_mps_shares_a_device_inside_of_one_environment() -> None:
    running = (held(0, share="mps", environment="x-production"), held(1, share="mps", environment="x-dev"))
    for environment, number in (("x-production", 0), ("x-dev", 1)):
        found = allocate((wanted("a", environment, share="mps"),), TWO, running)
        assert names(found["a"]) == (f"nvidia.com/gpu={uuid(number)}",)
    assert isinstance(allocate((wanted("a", "x-third", share="mps"),), TWO, running)["a"], Refusal)
    alone = (held(0, share="mps"), held(1, share="mps"))  # of run-STAGE, which starts no daemon
    assert isinstance(allocate((wanted("a", "", share="mps"),), TWO, alone)["a"], Refusal)


def test_sharers_must_fit_into_the_memory_together() -> None:
    small = host(gpu(0, free=20 * GIB))
    asked = [wanted(name, share="time-slice", memory="12g") for name in "ab"]
    found = allocate(asked, small)
    assert isinstance(found["a"], Grant)
    assert texts(found["b"]) == [f"{uuid(0)} (0, NVIDIA H200): 24g of free memory with a wanted, 20g are free"]


def test_what_may_run_on_the_cpu_and_what_shares_comes_last() -> None:
    one = host(gpu(0))
    found = allocate((wanted("a", optional=True), wanted("b")), one)
    assert list(found) == ["a", "b"]
    assert isinstance(found["a"], Refusal)
    assert isinstance(found["b"], Grant)
    asked = [wanted(name, share="time-slice", devices=("0",)) for name in "ab"]
    found = allocate((*asked, wanted("c")), TWO)
    assert names(found["a"]) == names(found["b"]) != names(found["c"])


def test_reason_has_the_command_that_changes_it() -> None:
    def mends(found: Grant | Refusal) -> set[str]:
        assert isinstance(found, Refusal)
        return {reason.mend for reason in found.reasons}

    assert mends(choose(GpuRequest(), host(gpu(0)), (held(0),))) == {"podman stop x-other"}
    assert mends(choose(GpuRequest(), host(gpu(0), unnamed=("0", uuid(0))))) == {
        "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
    }
    assert mends(choose(GpuRequest(), host(gpu(0), blocked="SELinux: sudo x"))) == {"sudo x"}


@pytest.mark.parametrize(
    ("request_", "on", "why"),
    [
        (GpuRequest(), host(), "a GPU wanted, this host has none: the driver lists none"),
        (GpuRequest(driver=">=600"), TWO, "driver >=600 wanted, 580.65.06 runs"),
        (GpuRequest(), host(gpu(0), blocked="SELinux forbids it"), "access to GPUs wanted, SELinux forbids it"),
        (GpuRequest(capability="10.0"), host(gpu(0)),
         f"{uuid(0)} (0, NVIDIA H200): compute capability 10.0 wanted, it has 9.0"),
        (GpuRequest(memory="200g"), host(gpu(0)),
         f"{uuid(0)} (0, NVIDIA H200): 200g of free memory wanted, 130g are free"),
        (GpuRequest(memory="1g"), host(gpu(0, memory=None, free=None)),
         f"{uuid(0)} (0, NVIDIA H200): 1g of free memory wanted, it does not tell how much it has"),
        (GpuRequest(), host(gpu(0), unnamed=(uuid(0), "0")),
         f"{uuid(0)} (0, NVIDIA H200): a name for podman wanted, no usable CDI specification has it"),
        (GpuRequest(count=3), TWO, "3 GPUs at once wanted, 2 would do"),
        (GpuRequest(count=0), host(gpu(0), gpu(1, problem="GPU is lost")),
         f"{uuid(1)} (1, NVIDIA H200): a GPU that works wanted, it does not answer: GPU is lost"),
        (GpuRequest(devices=(uuid(7),)), host(gpu(0)),
         f"{uuid(7)}: this device wanted, there are {uuid(0)} (0, NVIDIA H200)"),
        (GpuRequest(devices=("0",)), host(divided(0)),
         (f"0: one device wanted, it is divided (MIG): name one of {uuid(0, 'MIG')} (0:0, NVIDIA H200 MIG 3g.71gb), "
          f"{uuid(1, 'MIG')} (0:1, NVIDIA H200 MIG 3g.71gb)")),
        (GpuRequest(share="mps"), host(gpu(0, capability="6.1")),
         f"{uuid(0)} (0, NVIDIA H200): compute capability 7.0 for MPS wanted, it has 6.1"),
        (GpuRequest(share="mps"), host(gpu(0, compute_mode="DEFAULT")),
         (f"{uuid(0)} (0, NVIDIA H200): compute mode EXCLUSIVE_PROCESS for MPS wanted, it is DEFAULT: "
          f"sudo nvidia-smi --id={uuid(0)} --compute-mode=EXCLUSIVE_PROCESS")),
        (GpuRequest(share="mps"), replace(host(gpu(0, compute_mode="EXCLUSIVE_PROCESS")), control=False),
         ("nvidia-cuda-mps-control in containers wanted, no CDI specification has it; "
          "install it, then: sudo nvidia-ctk cdi generate --output=FILE")),
    ],
)  # fmt: skip
def test_refusal_names_device_wish_and_what_is_there(request_: GpuRequest, on: GpuHost, why: str) -> None:
    assert why in texts(choose(request_, on))


def test_every_reason_is_told_at_once() -> None:
    one = host(gpu(0, capability="7.5", free=GIB))
    found = texts(choose(GpuRequest(capability="8.0", memory="8g"), one, (held(0),)))
    assert [text.partition(": ")[2] for text in found] == [
        "compute capability 8.0 wanted, it has 7.5",
        "8g of free memory wanted, 1g are free",
        "an exclusive GPU wanted, the container x-other has it (exclusive)",
    ]


def test_mig_devices_are_given_alone_and_by_their_names() -> None:
    mixed = host(divided(0), gpu(1))
    assert names(choose(GpuRequest(), mixed)) == (f"nvidia.com/gpu={uuid(0, 'MIG')}",), (
        "the whole GPU is left to others"
    )
    assert names(choose(GpuRequest(memory="100g"), mixed)) == (f"nvidia.com/gpu={uuid(1)}",)
    assert names(choose(GpuRequest(devices=("0:1",)), mixed)) == (f"nvidia.com/gpu={uuid(1, 'MIG')}",)
    assert len(names(choose(GpuRequest(count=0), mixed))) == 3
    assert "a whole GPU wanted, a program sees one MIG device alone" in " ".join(
        texts(choose(GpuRequest(count=2), mixed))
    )


def test_device_is_named_by_index_where_the_specification_has_no_uuids() -> None:
    assert names(choose(GpuRequest(), host(gpu(0), unnamed=(uuid(0),)))) == ("nvidia.com/gpu=0",)


def test_index_and_uuid_of_one_gpu_are_one_device() -> None:
    assert names(choose(GpuRequest(devices=("0", uuid(0))), TWO)) == (f"nvidia.com/gpu={uuid(0)}",)


def test_idle_gpu_is_taken_before_a_busy_one() -> None:
    assert names(choose(GpuRequest(), host(gpu(0, processes=BUSY), gpu(1)))) == (f"nvidia.com/gpu={uuid(1)}",)


@pytest.mark.parametrize(
    ("expression", "driver", "fits"),
    [
        (">=570", "570.86.15", True), (">=570.86.15", "570.86.15", True), (">=570.86.16", "570.86.15", False),
        ("<600", "599.9", True), ("<600", "600.1", False), (">=570,<600", "580.65.06", True), (">=570", "", False),
    ],
)  # fmt: skip
def test_driver_is_compared_by_numbers(expression: str, driver: str, fits: bool) -> None:
    assert driver_fits(expression, driver) is fits


GPUS = st.lists(
    st.fixed_dictionaries({"capability": st.sampled_from(("7.0", "8.0", "9.0")), "free": st.sampled_from((8, 16, 32))}),
    min_size=1,
    max_size=4,
)
REQUESTS = st.lists(
    st.builds(
        GpuRequest,
        count=st.sampled_from((1, 1, 2)),
        capability=st.sampled_from(("", "8.0", "9.0")),
        memory=st.sampled_from(("", "16g", "32g")),
    ),
    min_size=1,
    max_size=3,
)


def make_host(rows: list[dict[str, object]]) -> GpuHost:
    return host(*(gpu(number, **row | {"free": row["free"] * GIB}) for number, row in enumerate(rows)))


def fits(request: GpuRequest, row: dict[str, object]) -> bool:
    """Whether a GPU does, written another way than the code."""
    enough = not request.memory or row["free"] >= int(request.memory[:-1])
    return enough and float(row["capability"]) >= float(request.capability or 0)


def can_be_met(requests: list[GpuRequest], rows: list[dict[str, object]]) -> bool:
    """Whether any way to hand out the GPUs fulfils all requests, by trying all."""
    slots = [request for request in requests for _ in range(request.count)]
    ways = permutations(range(len(rows)), len(slots)) if len(slots) <= len(rows) else ()
    return any(all(fits(slot, rows[n]) for slot, n in zip(slots, way, strict=True)) for way in ways)


@settings(max_examples=300)
@given(rows=GPUS, requests=REQUESTS, data=st.data())
def test_exclusive_requests_are_all_met_if_there_is_any_way(
    rows: list[dict[str, object]], requests: list[GpuRequest], data: st.DataObject
) -> None:
    busy = data.draw(st.sets(st.integers(0, 3), max_size=1))
    there = [held(number) for number in busy]
    found = allocate([wanted_of(n, one) for n, one in enumerate(requests)], make_host(rows), there)
    grants = [one for one in found.values() if isinstance(one, Grant)]
    free = [row for number, row in enumerate(rows) if number not in busy]
    assert (len(grants) == len(requests)) is can_be_met(requests, free)
    given_ = [one for grant in grants for one in grant.uuids]
    assert len(set(given_)) == len(given_), "nobody shares"
    assert not set(given_) & {uuid(number) for number in busy}
    for number, request in enumerate(requests):
        one = found[f"c{number}"]
        if isinstance(one, Grant):
            assert len(one.devices) == request.count
            assert all(fits(request, rows[int(device.index)]) for device in one.devices)
        else:
            assert all(reason.wanted and reason.found for reason in one.reasons)


def wanted_of(number: int, request: GpuRequest) -> WantedGpus:
    return WantedGpus(container=f"c{number}", request=request, environment="x")


@given(rows=GPUS, shares=st.lists(st.sampled_from(("exclusive", "mps", "time-slice")), min_size=1, max_size=5))
def test_a_device_has_one_kind_of_user(rows: list[dict[str, object]], shares: list[str]) -> None:
    asked = [replace(wanted_of(n, GpuRequest(share=share)), environment=f"e{n % 2}") for n, share in enumerate(shares)]
    found = allocate(asked, make_host(rows))
    users: dict[str, list[WantedGpus]] = {}
    for one in asked:
        grant = found[one.container]
        for device in grant.uuids if isinstance(grant, Grant) else ():
            users.setdefault(device, []).append(one)
    for several in users.values():
        kinds = {one.request.share for one in several}
        assert len(kinds) == 1
        assert kinds != {"exclusive"} or len(several) == 1
        assert kinds != {"mps"} or len({one.environment for one in several}) == 1
