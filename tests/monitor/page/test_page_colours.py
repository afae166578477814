"""Colours that everybody can read: contrast by WCAG 2.2, 1.4.3 and 1.4.11."""

from __future__ import annotations

import re
from importlib import resources

import pytest

_CSS = resources.files("buildkit.monitor.page").joinpath("assets", "page.css").read_text("utf-8")


def _schemes() -> dict[str, dict[str, str]]:
    blocks = [dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r"\{([^{}]*)\}", _CSS)]
    light, by_system, chosen = [block for block in blocks if "back" in block]
    assert by_system == chosen
    return {"light": light, "dark": chosen}


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out_from_what_is_behind_them(scheme: str) -> None:
    colours = _schemes()[scheme]
    for behind in ("card", "back"):
        for text in ("text", "soft", "good", "warn", "bad", "accent"):
            assert _contrast(colours[text], colours[behind]) >= 4.5, (text, behind)
    for line in (f"s{number}" for number in range(8)):
        assert _contrast(colours[line], colours["card"]) >= 3, line
