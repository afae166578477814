"""``cache -- du``: disk usage by stage and by kind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from buildkit.cache_admin.disk_usage import kind_table, other_lines, stage_table, usage_as_json
from buildkit.cache_admin.inventory import open_inventory
from buildkit.cache_admin.stored_images import Leftovers, find_leftovers
from buildkit.imagestore.store_folder import find_image_store
from buildkit.report.columns import print_columns
from buildkit.report.text import format_bytes
from buildkit.report.view import open_view


def print_disk_usage(folder: Path, *, as_json: bool) -> int:
    """Print sums by stage and by kind; return 0."""
    with open_view(sys.stderr) as emit, open_inventory(folder, emit) as (context, needed, inventory):
        leftovers = Leftovers()
        if needed:
            leftovers = find_leftovers(context.project.name, needed.refs, context.blobs.leases, emit)
    usage = usage_as_json(inventory, needed, leftovers, find_image_store())
    if as_json:
        sys.stdout.write(json.dumps(usage, indent=2) + "\n")
        return 0
    for columns, rows in (stage_table(usage), kind_table(usage)):
        print_columns(columns, rows, sys.stdout)
        if rows:
            sys.stdout.write("\n")
    lines = [*other_lines(usage), f"{format_bytes(usage['size'])} in {context.blobs.folder}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0
