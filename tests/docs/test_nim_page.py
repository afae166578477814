"""docs/nim.md shows a file that is valid, and names every key."""

from __future__ import annotations

import re
from pathlib import Path

from buildkit.declare.nim_settings import NIM
from buildkit.declare.services_file import parse_services

PAGE = (Path(__file__).parents[2] / "docs/nim.md").read_text("utf-8")


def test_the_example_is_valid_and_names_every_key() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (service,) = parse_services(example, stages=()).services
    assert service.nim is not None
    assert (service.nim.key_variable, service.user) == ("NGC_API_KEY", "1000:1000")
    assert {key for key in NIM.fields if not re.search(rf"^(?:# )?{key} = ", example, re.MULTILINE)} == set()
