"""``cache -- gc``: delete what no stage needs."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from buildkit.cache_admin.gc import GcOptions, GcPlan, collect_garbage
from buildkit.cache_admin.gc_report import format_gc_summary, gc_as_json, gc_columns, gc_rows
from buildkit.report.columns import print_columns
from buildkit.report.view import open_view


def gc_cache(folder: Path, options: GcOptions, *, as_json: bool) -> int:
    """Collect garbage and print what was deleted, even if an error ends the collection; return 0.

    Raises DefinitionError if the stages cannot be read, BuildError, or Interrupted.
    """
    done: list[GcPlan] = []
    try:
        with open_view(sys.stderr) as emit:
            collect_garbage(folder, options, emit, done)
    finally:
        for plan in done:
            if as_json:
                sys.stdout.write(json.dumps(gc_as_json(plan, options), indent=2) + "\n")
            else:
                print_columns(gc_columns(options), list(gc_rows(plan, time.time())), sys.stdout)
                sys.stdout.write(format_gc_summary(plan, options) + "\n")
    return 0
