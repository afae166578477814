"""YAML documents of plain values; the only importer of ``yaml`` for writing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_WIDTH = 4096  # characters; a folded text is hard to compare


def render_yaml(*documents: object, header: Sequence[str] = ()) -> str:
    """Render documents below the comment lines ``header``; keys keep their order, equal values give equal bytes."""
    import yaml  # only what prints YAML needs it

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - an anchor would surprise readers
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:  # noqa: ANN401, ARG002, FBT
            return super().increase_indent(flow, False)

    text: str = yaml.dump_all(
        documents, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH, explicit_start=len(documents) > 1
    )
    return "".join(f"# {line}".rstrip() + "\n" for line in header) + text
