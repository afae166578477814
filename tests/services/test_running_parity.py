"""What `parity --running` reads of a container of real podman."""

from __future__ import annotations

import pytest

from buildkit.errors import BuildError
from buildkit.inspection.parity import describe_running
from tests.imagestore.hosts import StorageHost
from tests.services.conftest import IMAGE, SERVE

pytestmark = pytest.mark.tools


def test_a_running_container_is_described_and_what_cannot_be_listed_is_an_error(server: StorageHost) -> None:
    with pytest.raises(BuildError, match=f"0 containers run {IMAGE}, not one"):
        describe_running(IMAGE, "python")
    options = ("--network=none", "--read-only", "--cap-drop=all", "--user=1000:1000", "--env=A=1=2")
    name = server.tool("podman", "run", "--detach", *options, IMAGE, *SERVE).strip()
    facts = {key: value for key, value in describe_running(IMAGE, "python").items() if value}
    assert facts.items() >= {
        ("config", "User"): '"1000:1000"', ("flag", "ReadonlyRootfs"): "true", ("variable", "A"): "1=2",
    }.items()  # fmt: skip
    assert ("flag", "EffectiveCaps") not in facts
    assert [key for key in facts if key[0] == "package"] == [], "there is no Python"
    with pytest.raises(BuildError, match="its Python packages could not be listed") as raised:
        describe_running(IMAGE, "cat")
    assert "invalid option" in raised.value.output
    server.tool("podman", "rm", "--force", "--time=0", name)
