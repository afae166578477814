"""Whether programs of a processor run here, tried with a program of it."""

import platform
import shutil
import subprocess

import pytest

from buildkit.tools.emulation import can_emulate, render_program

pytestmark = pytest.mark.tools


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no image is for this machine")
def test_programs_of_this_machine_run() -> None:
    assert can_emulate(platform.machine())


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_program_that_is_tried_ends_with_success_on_its_processor(arch, tmp_path) -> None:
    program = tmp_path / "try"
    program.write_bytes(render_program(arch))
    program.chmod(0o755)
    qemu = () if arch == platform.machine() else (shutil.which(f"qemu-{arch}-static"),)
    if None in qemu:
        pytest.skip(f"qemu-{arch}-static is not installed")
    assert subprocess.run((*qemu, str(program)), check=False).returncode == 0
