"""docs/runtime-security.md lists the rules of running containers with their current titles."""

from __future__ import annotations

import re
from pathlib import Path

from buildkit.audit import running_watch_rules
from buildkit.findings import Rule

PAGE = Path(__file__).parents[2] / "docs/runtime-security.md"


def test_docs_list_every_rule_of_running_containers() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| (.*?) \|(.*?)\|$", PAGE.read_text("utf-8"), re.MULTILINE)
    rules = [rule for rule in vars(running_watch_rules).values() if isinstance(rule, Rule)]
    short = [", ".join(name.removeprefix("CIS Docker Benchmark ") for name in rule.references) for rule in rules]
    wanted = {
        (rule.id, rule.severity.name.lower(), rule.title, names) for rule, names in zip(rules, short, strict=True)
    }
    assert {(*row[:3], row[3].strip()) for row in listed} == wanted
