"""``cache -- why KEY``: explain what a key stands for."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from buildkit.cache_admin.inventory import open_inventory
from buildkit.cache_admin.key_history import KeyHistory, find_histories, render_history
from buildkit.errors import DefinitionError
from buildkit.report.columns import Column, print_columns
from buildkit.report.text import sanitize
from buildkit.report.view import open_view

_COLUMNS = (Column(title="key"), Column(title="name"), Column(title="kind"), Column(title="state"))


def explain_key(folder: Path, query: str, *, as_json: bool) -> int:
    """Print the history of a key or name, or a list of its candidates; return 0. Raises DefinitionError."""
    with open_view(sys.stderr) as emit, open_inventory(folder, emit) as (context, needed, inventory):
        histories = find_histories(query, inventory, needed, context.ledger)
    if not histories:
        hint = "give at least four digits of a key, digest or diff_id, or a name that nox -s cache -- ls shows"
        raise DefinitionError(f"nothing here is called `{query}`", hint=hint)
    if as_json:
        sys.stdout.write(json.dumps([history.as_json() for history in histories], indent=2) + "\n")
        return 0
    first, *others = histories
    if others and first.name != query:
        _print_list(f"`{query}` may be", histories)
        return 0
    sys.stdout.write(sanitize("\n".join(render_history(first, time.time()))) + "\n")
    if others:  # a name stands for the version that is needed, or the newest
        _print_list("other versions of it", others)
    return 0


def _print_list(title: str, histories: Sequence[KeyHistory]) -> None:
    rows = [(history.hash[:12], history.name, history.kind, history.state) for history in histories]
    sys.stdout.write(f"{sanitize(title)}:\n")
    print_columns(_COLUMNS, rows, sys.stdout)
