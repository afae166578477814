"""docs/running.md quotes the printed output; `python -m tests.docs.test_running_page` updates it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from buildkit.cli.run import FORMATS
from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project
from buildkit.declare.stage import Running
from buildkit.declare.stage_file import parse_stage
from buildkit.running.flags import make_container
from buildkit.running.seccomp import REFUSED

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/running.md"
_REFUSED = re.compile(r"(<!-- made: refused -->\n\| what \| why \|\n\|---\|---\|\n)((?:\|.*\n)*)")
_MADE = re.compile(r"(?<=<!-- made: )(\w+)( -->\n```\w+\n)(.*?)(?=```)", re.DOTALL)


def written() -> str:
    """Return the page with the present output."""
    resolved = load_graph(ROOT).resolve("hardened")
    image = load_project(ROOT).ref("hardened")
    container = make_container(image, "xoe-hardened", resolved.config, resolved.running)
    made = {name: form.render(container) for name, form in FORMATS.items()}
    text = _MADE.sub(lambda found: f"{found[1]}{found[2]}{made[found[1]]}", PAGE.read_text("utf-8"))
    rows = "".join(f"| {group.what} | {group.why} |\n" for group in REFUSED)
    return _REFUSED.sub(lambda found: f"{found[1]}{rows}", text)


def test_page_shows_the_printed_output() -> None:
    text = PAGE.read_text("utf-8")
    assert {found[1] for found in _MADE.finditer(text)} == set(FORMATS) - {"seccomp", "docker-compose"}
    assert written() == text


def test_example_shows_the_defaults() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    tomllib.loads(example)
    stage = parse_stage('summary = "x"\n' + example, name="x", file="docs/running.md")
    assert stage.running == Running()


def test_table_lists_every_flag() -> None:
    text = PAGE.read_text("utf-8")
    resolved = load_graph(ROOT).resolve("hardened")
    flags = make_container("i", "n", resolved.config, resolved.running).flags()
    named = {flag.text.partition("=")[0] for flag in flags if not flag.text.startswith("--health-")}
    table = text[text.index("## The flags") : text.index("A container without ports")]
    assert {flag for flag in named if flag not in table} == set()


if __name__ == "__main__":
    PAGE.write_text(written(), "utf-8")
