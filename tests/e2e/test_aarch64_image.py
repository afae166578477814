"""An image for aarch64, made on another processor without emulation, answers under qemu-user as it would there."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.layers.tar.decompress import inflate
from buildkit.layers.tar.member import Compression
from tests.e2e.conftest import short_folder
from tests.e2e.machines import succeeded
from tests.e2e.tinyproject import Tiny

_QEMU = "qemu-aarch64-static"
pytestmark = [
    pytest.mark.tools,
    pytest.mark.network,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="this test makes an image of another processor"),
    pytest.mark.skipif(
        shutil.which(_QEMU) is None, reason=f"{_QEMU} is not installed (apt-get install qemu-user-static)"
    ),
]

_FILES = {
    "pyproject.toml": (
        '[project]\nname = "tiny"\n[tool.buildkit]\narch = ["x86_64", "aarch64"]\n'
        'interpreter = "/usr/bin/python3.13"\nbytecode-root = "app"\n'
    ),
    "requirements/base.apt": "base-files\npython3.13-minimal\nlibpython3.13-stdlib\n",
    "requirements/app.in": "markupsafe\nidna\n",
    "stages/app/stage.toml": (
        'summary = "x"\nships = true\n[root]\nsuite = "trixie"\nvariant = "extract"\n'
        'packages = "requirements/base.apt"\n[wheels]\nlocks = ["requirements/app.txt"]\n'
    ),
}
_STEP = """summary = "x"
from = "app"
[[run]]
name = "which"
command = ["/usr/bin/python3.13", "-c", "import platform; open('/machine', 'w').write(platform.machine())"]
"""
# binfmt_misc of a user namespace (since Linux 6.7) starts qemu for its processes alone
_REGISTER = r"""set -e
folder=$(mktemp -d -p "$TMPDIR")
mount -t binfmt_misc binfmt_misc "$folder"
printf '%s' ':qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:'\
'\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:'"$QEMU:F" > "$folder/register"
exec "$@"
"""
_ANSWER = """
import marshal, pathlib, platform, sys
site = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(site))
import idna, markupsafe._speedups
compared = 0
for source in sorted([*(site / "idna").glob("*.py"), *pathlib.Path(sys.argv[2]).glob("a[b-s]*.py")]):
    made = (source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc").read_bytes()
    own = compile(source.read_bytes(), str(source), "exec", dont_inherit=True)
    assert marshal.loads(made[16:]) == own, source
    compared += 1
print(platform.machine(), compared, markupsafe.escape("<"))
"""


@pytest.fixture
def tiny(registry: str) -> Iterator[Tiny]:
    tiny = Tiny(short_folder(), registry=registry)
    for path, text in _FILES.items():
        tiny.write(path, text)
    yield tiny
    tiny.remove()


def test_image_for_aarch64_answers_and_has_the_bytecode_that_its_own_python_makes(
    tiny: Tiny, registry: str, tmp_path: Path
) -> None:
    tiny.lock()
    ref = f"{registry}/duo/answers:1"
    made = succeeded(tiny.run("push-app", ref, "--arch", "aarch64"))
    assert "emulation" not in made.text
    for layer in json.loads(tiny.tool("skopeo", "inspect", "--raw", f"docker://{ref}"))["layers"]:
        tar = tmp_path / "layer.tar"
        with tar.open("wb") as file:
            blob = tiny.cache / "sha256" / layer["digest"].removeprefix("sha256:")
            file.writelines(inflate(blob, Compression.ZSTD))
        with tarfile.open(tar) as opened:
            opened.extractall(tmp_path / "root", filter="tar")
    root = tmp_path / "root"
    assert not (root / "buildkit-python").exists()
    site, library = root / "opt/venv/lib/python3.13/site-packages", root / "usr/lib/python3.13"
    argv = (_QEMU, "-L", str(root), str(root / "usr/bin/python3.13"), "-S", "-c", _ANSWER, str(site), str(library))
    answer = subprocess.run(argv, env={}, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    machine, compared, escaped = answer.stdout.split()
    assert (machine, escaped) == ("aarch64", "&lt;")
    assert int(compared) > 8
    _check_step(tiny)


def _check_step(tiny: Tiny) -> None:
    """A step for aarch64 runs where the kernel starts qemu, and not a second time where it does not."""
    tiny.write("stages/step/stage.toml", _STEP)
    tiny.env["QEMU"] = shutil.which(_QEMU) or ""
    tiny.before = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _REGISTER, "sh")
    if subprocess.run((*tiny.before, "true"), env=tiny.env, check=False).returncode:
        return  # an older kernel, or no namespaces
    made = tiny.build("step", "--arch", "aarch64")
    assert "programs for aarch64 run by emulation" in made.text
    assert list(made.built()) == ["step/which"]
    tiny.before = ()
    again = tiny.build("step", "--arch", "aarch64")
    assert again.built() == {}
