"""Stages and graphs from the text of their stage files, for tests of what reads a graph."""

from __future__ import annotations

from buildkit.declare.graph import Graph, make_graph
from buildkit.declare.stage import Stage
from buildkit.declare.stage_file import parse_stage


def stage(name: str, text: str = "") -> Stage:
    return parse_stage(f'summary = "{name}"\n{text}', name=name, file=f"stages/{name}/stage.toml")


def graph(**texts: str) -> Graph:
    return make_graph({name: stage(name, text) for name, text in texts.items()})
