"""The session ``gpus``: the GPUs of this host, the CDI specifications, and what keeps them from containers."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from buildkit.cli.options import make_parser
from buildkit.command_names import name_commands
from buildkit.doctor.diagnosis import Diagnosis, DiagnosisStatus, note
from buildkit.doctor.gpu_checks import check_gpu_host, check_gpu_use
from buildkit.doctor.probe import probe_tool
from buildkit.doctor.render import render_text
from buildkit.errors import BuildError
from buildkit.gpu.cdi_spec import CdiFiles
from buildkit.gpu.device import Gpus, gpus_as_json
from buildkit.gpu.eligibility import HeldDevice
from buildkit.gpu.host_devices import GpuHost
from buildkit.report.columns import print_columns
from buildkit.report.gpu_tables import CDI_COLUMNS, GPU_COLUMNS, HELD_COLUMNS, cdi_rows, gpu_rows, held_rows
from buildkit.tools.cdi import find_cdi
from buildkit.tools.gpu import find_gpus
from buildkit.tools.gpu_host import find_held, find_selinux_block

_PAUSE = 2.0  # seconds; a query takes milliseconds a GPU
_CLEAR = "\x1b[H\x1b[2J"


def run(folder: Path, arguments: Sequence[str]) -> None:  # noqa: ARG001 - it is about the host
    """Print tables, or JSON; a host without GPUs is no failure. Raises DefinitionError."""
    parser = make_parser("gpus")
    parser.description = "List the GPUs of this host, and what keeps containers from them. Changes nothing."
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print all that is known as JSON; sizes are bytes")
    how.add_argument("--watch", action="store_true", help=f"print it again every {_PAUSE:.0f} seconds, until Ctrl-C")
    options = parser.parse_args(list(arguments))
    host = _find_host()
    if options.json:
        sys.stdout.write(json.dumps(_as_json(host), indent=2) + "\n")
        return
    _print(host)
    while options.watch:
        sys.stdout.flush()
        time.sleep(_PAUSE)
        host = _find_host()
        sys.stdout.write(_CLEAR if sys.stdout.isatty() else "\n")
        _print(host)


@dataclass(frozen=True, slots=True, kw_only=True)
class _GpuHost:
    gpus: Gpus
    cdi: CdiFiles
    held: tuple[HeldDevice, ...]
    findings: tuple[Diagnosis, ...]


def _find_host() -> _GpuHost:
    gpus, cdi = find_gpus(), find_cdi()
    podman = probe_tool("podman")
    findings = [*check_gpu_host(gpus, cdi, podman, probe_tool("nvidia-ctk"))]
    if gpus.devices:
        findings += check_gpu_use(find_selinux_block(), probe_tool("podman-compose"))
    held: tuple[HeldDevice, ...] = ()
    if gpus.devices and podman.path:
        try:
            held = find_held(GpuHost(gpus=gpus))
        except BuildError as error:
            findings.append(note("gpu-holders", f"it is not known which containers have GPUs: {error.message}"))
    return _GpuHost(gpus=gpus, cdi=cdi, held=held, findings=tuple(findings))


def _as_json(host: _GpuHost) -> dict[str, object]:
    files = [{key: value for key, value in asdict(file).items() if value} for file in host.cdi.files]
    cdi = {"files": files, "hooks": host.cdi.hooks}
    held = [asdict(one) for one in host.held]
    return {
        **gpus_as_json(host.gpus),
        "cdi": cdi,
        "held": held,
        "findings": [asdict(finding) for finding in host.findings],
    }


def _print(host: _GpuHost) -> None:
    out = sys.stdout
    if host.gpus.devices:
        out.write(f"driver {host.gpus.driver}, CUDA up to {host.gpus.cuda}\n\n")
    tables = (
        (GPU_COLUMNS, gpu_rows(host.gpus)),
        (HELD_COLUMNS, held_rows(host.held, GpuHost(gpus=host.gpus))),
        (CDI_COLUMNS, cdi_rows(host.cdi.files)),
    )
    for columns, rows in tables:
        print_columns(columns, rows, out)
        if rows:
            out.write("\n")
    width = shutil.get_terminal_size().columns if out.isatty() else 110
    shown = [finding for finding in host.findings if finding.id != "gpu" or finding.status is not DiagnosisStatus.OK]
    if shown:
        out.write(name_commands(render_text(shown, width=width, colour=False)))
