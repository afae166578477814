"""What SELinux says of containers and devices."""

from pathlib import Path

import pytest

from buildkit.tools.gpu_host import find_selinux_block


@pytest.mark.parametrize(
    ("enforce", "boolean", "blocks"),
    [("1", "0 0\n", True), ("1", "1 1\n", False), ("0", "0 0\n", False), ("1", None, False), (None, None, False)],
)
def test_selinux_blocks_where_it_enforces_and_the_boolean_is_off(
    enforce: str | None, boolean: str | None, blocks: bool, tmp_path: Path
) -> None:
    (tmp_path / "booleans").mkdir()
    for name, text in (("enforce", enforce), ("booleans/container_use_devices", boolean)):
        if text is not None:
            (tmp_path / name).write_text(text)
    found = find_selinux_block(tmp_path)
    assert bool(found) is blocks
    assert not blocks or found.endswith(": sudo setsebool -P container_use_devices=true")
