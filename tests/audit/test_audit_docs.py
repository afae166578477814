"""docs/audit.md lists the rules with their current titles."""

import re
from pathlib import Path

from buildkit.audit.rules import RULES

PAGE = Path(__file__).parents[2] / "docs/audit.md"


def test_docs_list_every_rule_with_severity_and_sections():
    listed = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| (.*?) \| (.*?) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    short = ((rule, [name.removeprefix("CIS Docker Benchmark ") for name in rule.references]) for rule in RULES)
    assert listed == [(rule.id, rule.severity.name.lower(), rule.title, ", ".join(names)) for rule, names in short]
