"""``cache -- ls``: every layer, compiled wheel and download."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from buildkit.cache_admin.inventory import open_inventory
from buildkit.cache_admin.list_layers import (
    LIST_COLUMNS,
    check_stage_has_items,
    format_total,
    items_as_json,
    list_row,
    select_items,
)
from buildkit.report.columns import print_columns
from buildkit.report.view import open_view


def list_cache(folder: Path, *, stage: str | None, kind: str | None, as_json: bool) -> int:
    """Print the items, the largest first; return 0. Raises DefinitionError for an unknown stage."""
    with open_view(sys.stderr) as emit, open_inventory(folder, emit) as (_, _, inventory):
        items = select_items(inventory, stage, kind)
    if stage is not None and not items:
        check_stage_has_items(folder, stage)
    if as_json:
        sys.stdout.write(json.dumps(items_as_json(items), indent=2) + "\n")
        return 0
    now = time.time()
    print_columns(LIST_COLUMNS, [list_row(item, now) for item in items], sys.stdout)
    sys.stdout.write(format_total(items) + "\n")
    return 0
