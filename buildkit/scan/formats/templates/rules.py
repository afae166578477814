"""Rules for templates."""

from __future__ import annotations

from buildkit.findings import Rule, Severity

ESCAPE = Rule(
    id="jinja-escape",
    title="A template that escapes its sandbox",
    severity=Severity.CRITICAL,
    why="If templates are rendered without a sandbox, names with underscores lead from any value to a shell.",
    advice="Do not use the template; take the one of the model's author.",
    references=("CVE-2024-34359", "CVE-2026-5760"),
)
REACH = Rule(
    id="jinja-reach",
    title="A template that uses more than its messages",
    severity=Severity.HIGH,
    why="The filter `attr`, Jinja's helpers, other templates, and names that the template assembles are ways out; "
    "chats need none of them.",
    advice="Read the template; take the one of the model's author.",
    references=("CVE-2024-34359",),
)
BURDEN = Rule(
    id="jinja-burden",
    title="A template that takes excessive time or memory",
    severity=Severity.MEDIUM,
    why="Rendering it costs the server time or memory with every request.",
    advice="Read the template; take the one of the model's author.",
)
