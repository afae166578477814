"""GPUs through a fake of ``pynvml``."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from buildkit.tools.gpu import Gpu, Gpus, find_gpus


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    fake = ModuleType("pynvml")
    fake.NVMLError = NVMLError
    fake.NVML_ERROR_LIBRARY_NOT_FOUND = 12
    fake.NVML_ERROR_DRIVER_NOT_LOADED = 9
    fake.calls = []
    fake.nvmlInit = lambda: fake.calls.append("init")
    fake.nvmlShutdown = lambda: fake.calls.append("shutdown")
    fake.nvmlDeviceGetCount = lambda: 2
    fake.nvmlDeviceGetHandleByIndex = lambda index: index
    fake.nvmlDeviceGetName = lambda handle: b"H200" if handle else "L4"  # older bindings answer bytes
    fake.nvmlDeviceGetUUID = lambda handle: f"GPU-{handle}"
    fake.nvmlDeviceGetMemoryInfo = lambda handle: SimpleNamespace(total=1000 + handle)
    fake.nvmlSystemGetDriverVersion = lambda: "580.65"
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def fail(value: int) -> object:
    def call(*_: object) -> None:
        raise NVMLError(value)

    return call


def test_devices_are_listed_and_nvml_is_shut_down(nvml: ModuleType) -> None:
    assert find_gpus() == Gpus(
        devices=(
            Gpu(index=0, name="L4", uuid="GPU-0", memory=1000),
            Gpu(index=1, name="H200", uuid="GPU-1", memory=1001),
        ),
        driver="580.65",
        driver_found=True,
    )
    assert nvml.calls == ["init", "shutdown"]


@pytest.mark.parametrize(("value", "found"), [(12, False), (9, False), (18, True)])
def test_missing_driver_differs_from_failing_driver(nvml: ModuleType, value: int, found: bool) -> None:
    nvml.nvmlInit = fail(value)
    gpus = find_gpus()
    assert (gpus.devices, gpus.driver_found, gpus.problem) == ((), found, f"error {value}")
    assert nvml.calls == []


def test_lost_device_is_reported_as_a_problem(nvml: ModuleType) -> None:
    nvml.nvmlDeviceGetName = fail(15)
    assert find_gpus() == Gpus(problem="error 15", driver_found=True)
    assert nvml.calls == ["init", "shutdown"]


def test_missing_binding_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_gpus() == Gpus(problem="the package nvidia-ml-py is not installed: pip install 'xoe-buildkit[gpu]'")


def test_real_binding_has_every_name_of_the_fake(nvml: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pynvml")
    import pynvml

    names = [name for name in vars(nvml) if name.startswith(("nvml", "NVML"))]
    assert len(names) > 8
    assert [name for name in names if not hasattr(pynvml, name)] == []
    assert (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED) == (12, 9)
    find_gpus()  # whatever this machine has, it answers
