"""Findings about GPUs and CDI specifications, from facts alone."""

import dataclasses

import pytest

from buildkit.doctor.diagnosis import Diagnosis, DiagnosisStatus
from buildkit.doctor.facts import InstalledTool
from buildkit.doctor.gpu_checks import check_gpu_host, check_gpu_use
from buildkit.gpu.cdi_spec import CdiFault, CdiFile, CdiFiles, CdiSpec
from buildkit.gpu.device import Gpu, Gpus, MigDevice

PODMAN = InstalledTool(name="podman", path="/usr/bin/podman", version="5.4.2")
TOOLKIT = InstalledTool(name="nvidia-ctk", path="/usr/bin/nvidia-ctk", version="1.18.0")
ETC, RUN = "/etc/cdi/nvidia.yaml", "/var/run/cdi/nvidia.yaml"
GPU = Gpu(index=0, uuid="GPU-a", name="H200", memory=150_000_000_000)
GPUS = Gpus(devices=(GPU, Gpu(index=1, uuid="GPU-b", name="H200")), driver="580.1", cuda="13.0", driver_found=True)
SPEC = CdiSpec(kind="nvidia.com/gpu", version="0.5.0", devices=("0", "1", "all"), needs=("/usr/lib/libcuda.so.580.1",))
FILE = CdiFile(path=ETC, spec=SPEC)
GENERATE = f"sudo nvidia-ctk cdi generate --output={ETC}"


def check(
    gpus: Gpus = GPUS,
    *files: CdiFile,
    hooks: tuple[str, ...] = (),
    podman: str = "5.4.2",
    toolkit: InstalledTool = TOOLKIT,
) -> list[Diagnosis]:
    cdi = CdiFiles(files=files, hooks=hooks)
    return list(check_gpu_host(gpus, cdi, dataclasses.replace(PODMAN, version=podman), toolkit))


def only(found: list[Diagnosis]) -> Diagnosis:
    bad = [finding for finding in found if finding.status is not DiagnosisStatus.OK]
    assert len(bad) == 1, bad
    assert bad[0].cost
    return bad[0]


def having(**changes: object) -> CdiFile:
    return dataclasses.replace(FILE, spec=dataclasses.replace(SPEC, **changes))


def test_healthy_host_is_told_the_flag_that_works() -> None:
    found = check(GPUS, FILE)
    assert [finding.status for finding in found] == [DiagnosisStatus.OK, DiagnosisStatus.OK]
    assert found[0].what == "H200 (150 GB), H200; driver 580.1"
    assert found[1].what == "`podman run --device nvidia.com/gpu=all` works"
    by_uuid = check(GPUS, having(devices=("GPU-a", "GPU-b")))
    assert by_uuid[1].what == "`podman run --device nvidia.com/gpu=GPU-a` works"


def test_host_without_gpus_has_one_note_whatever_else_it_lacks() -> None:
    [found] = check(Gpus(problem="NVML Shared Library Not Found"), toolkit=InstalledTool(name="nvidia-ctk"))
    assert (found.status, found.what) == (DiagnosisStatus.NOTE, "no NVIDIA GPU (NVML Shared Library Not Found)")
    [found] = check(Gpus(driver="580.1", driver_found=True), hooks=("/hook.json",))
    assert (found.status, found.what) == (DiagnosisStatus.NOTE, "no NVIDIA GPU (the driver lists none)")


def test_driver_that_does_not_answer_is_a_warning() -> None:
    found = only(check(Gpus(problem="version mismatch", driver_found=True)))
    assert (found.status, found.what) == (DiagnosisStatus.WARNING, "NVIDIA's driver does not answer: version mismatch")


def test_lost_gpu_and_memory_errors_are_found_and_do_not_make_the_specification_wrong() -> None:
    lost = Gpu(index=1, problem="GPU is lost")
    found = only(check(dataclasses.replace(GPUS, devices=(GPU, lost)), FILE))
    assert found.what == "GPU 1 does not answer: GPU is lost"
    worn = dataclasses.replace(GPUS, devices=(dataclasses.replace(GPU, ecc_errors=3), GPUS.devices[1]))
    found = only(check(worn, FILE))
    assert (found.what, found.mend) == (
        "GPU 0 (GPU-a) has 3 uncorrected ECC errors since the driver was loaded",
        "sudo nvidia-smi --gpu-reset --id=0",
    )


def test_missing_specification_is_generated_after_the_toolkit_is_installed() -> None:
    assert only(check()).mend == GENERATE
    found = only(check(toolkit=InstalledTool(name="nvidia-ctk")))
    assert found.mend == f"sudo apt-get install nvidia-container-toolkit && {GENERATE}"


FAULTS = {
    "unreadable": (CdiFault.UNREADABLE, f"sudo chmod -R a+rX {ETC}"),
    "malformed": (CdiFault.MALFORMED, GENERATE),
}


@pytest.mark.parametrize("name", FAULTS)
def test_specification_that_podman_cannot_read_is_the_only_finding(name: str) -> None:
    fault, mend = FAULTS[name]
    found = only(check(GPUS, CdiFile(path=ETC, fault=fault, problem="why")))
    assert (found.what, found.mend) == (f"{ETC} {fault}: why", mend)


def test_specification_with_an_ending_that_podman_ignores_is_renamed() -> None:
    found = only(
        check(GPUS, CdiFile(path="/etc/cdi/nvidia.yml", fault=CdiFault.IGNORED, problem="podman reads *.yaml"))
    )
    assert found.mend == f"sudo mv /etc/cdi/nvidia.yml {ETC}"


WRONG = {
    "is CDI 0.7.0, which podman 4.3.1 does not read": ({"version": "0.7.0"}, "upgrade podman"),
    "is of driver 570.2, and 580.1 runs": ({"needs": ("/usr/lib/libcuda.so.570.2",)}, GENERATE),
    "lacks 1": ({"devices": ("0", "all")}, GENERATE),
    "has 0:1, 2, GPU-c and 1 more, which the driver does not": (
        {"devices": ("0", "1", "2", "0:1", "GPU-c", "MIG-d", "all")}, GENERATE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_specification_that_does_not_fit_this_host_is_found(what: str) -> None:
    changes, mend = WRONG[what]
    found = only(check(GPUS, having(**changes), podman="4.3.1"))
    assert f"{ETC} {what}" in found.what
    assert found.mend.startswith(mend)


def test_what_a_release_of_podman_reads_may_be_unknown() -> None:
    found = check(GPUS, having(version="1.0.0"), podman="5.9.0")
    assert only(found).status is DiagnosisStatus.NOTE
    assert "not known whether podman 5.9.0" in only(found).what
    assert found[-1].status is DiagnosisStatus.OK


def test_missing_nodes_and_libraries_are_named_and_counted() -> None:
    found = only(check(GPUS, dataclasses.replace(FILE, missing=("/dev/dri/card9", "/lib/a", "/lib/b", "/lib/c"))))
    assert found.what == f"{ETC} names what this host lacks: /dev/dri/card9, /lib/a, /lib/b and 1 more"
    assert found.mend == GENERATE
    other = CdiFile(
        path="/etc/cdi/x.json", spec=CdiSpec(kind="x.y/z", version="0.5.0", devices=("a",)), missing=("/m",)
    )
    assert only(check(Gpus(problem="none"), other)[1:]).mend == ""  # of another vendor: its tool is not known


def test_mig_layout_is_compared_with_the_specification() -> None:
    slices = (MigDevice(index=0, uuid="MIG-a", name="3g"), MigDevice(index=1, uuid="MIG-b", name="3g"))
    split = dataclasses.replace(GPUS, devices=(dataclasses.replace(GPU, mig=slices),))
    assert check(split, having(devices=("0:0", "MIG-b", "all")))[-1].status is DiagnosisStatus.OK
    found = [finding.what for finding in check(split, having(devices=("0", "all"))) if finding.cost]
    assert found == [
        f"{ETC} lacks 0:0, 0:1",
        f"{ETC} has 0, which the driver does not: GPUs or MIG devices have changed",
    ]


def test_names_that_two_files_of_a_folder_have_are_unresolvable() -> None:
    other = dataclasses.replace(FILE, path="/etc/cdi/old.json")
    found = only(check(GPUS, FILE, other))
    assert found.what == f"{ETC} and /etc/cdi/old.json both have nvidia.com/gpu=0, nvidia.com/gpu=1, nvidia.com/gpu=all"
    assert found.mend.startswith("sudo rm /etc/cdi/old.json")


def test_stale_specification_that_a_later_folder_replaces_is_a_note() -> None:
    stale = dataclasses.replace(having(needs=("/usr/lib/libcuda.so.570.2",)), missing=("/usr/lib/libcuda.so.570.2",))
    found = check(GPUS, stale, dataclasses.replace(FILE, path=RUN))
    assert only(found).what == f"{ETC} is not used: {RUN} has the same names"
    assert (only(found).status, only(found).mend) == (DiagnosisStatus.NOTE, f"sudo rm {ETC}")
    assert found[-1].status is DiagnosisStatus.OK


def test_older_hook_and_old_toolkit_are_warned_of() -> None:
    found = only(check(GPUS, FILE, hooks=("/usr/share/containers/oci/hooks.d/oci-nvidia-hook.json",)))
    assert (found.id, found.mend) == ("cdi-hook", "sudo rm /usr/share/containers/oci/hooks.d/oci-nvidia-hook.json")
    found = only(check(GPUS, FILE, toolkit=dataclasses.replace(TOOLKIT, version="1.17.7")))
    assert (found.id, found.mend) == ("nvidia-ctk", "sudo apt-get install --only-upgrade nvidia-container-toolkit")


def test_selinux_that_keeps_devices_from_containers_is_mended_by_its_boolean() -> None:
    said = "SELinux keeps containers from devices: sudo setsebool -P container_use_devices=true"
    [found] = check_gpu_use(said, InstalledTool(name="podman-compose"))
    assert (found.status, found.what) == (DiagnosisStatus.WARNING, "SELinux keeps containers from devices")
    assert found.mend == "sudo setsebool -P container_use_devices=true"


@pytest.mark.parametrize(("version", "warned"), [("1.0.6", True), ("1.2.0", False), ("1.6.0", False), ("", False)])
def test_podman_compose_that_ignores_reservations_is_named(version: str, warned: bool) -> None:
    found = list(check_gpu_use("", InstalledTool(name="podman-compose", path="/usr/bin/x", version=version)))
    assert bool(found) is warned
    assert all("run on the CPU" in one.cost for one in found)
