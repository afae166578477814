"""``cache -- verify``: read every file again, and delete what is damaged."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from buildkit.build.context import open_context
from buildkit.cache_admin.verify import (
    CacheFlaw,
    CacheVerification,
    find_unknown_files,
    format_verification,
    verification_as_json,
    verify_cache,
)
from buildkit.declare.project import load_project
from buildkit.report.columns import Column, print_columns
from buildkit.report.view import open_view

_COLUMNS = (Column(title="name"), Column(title="what"), Column(title="then"))


def verify(folder: Path, *, as_json: bool) -> int:
    """Verify the cache and print the result, even if interrupted; return 1 if anything is damaged or missing."""
    results: list[CacheVerification] = []
    notes: tuple[CacheFlaw, ...] = ()
    try:
        with open_view(sys.stderr) as emit:
            with open_context(load_project(folder), emit) as context:
                verify_cache(context, emit, results)
            notes = tuple(find_unknown_files(context.blobs))
    finally:
        for result in results:
            if as_json:
                sys.stdout.write(json.dumps(verification_as_json(result, notes), indent=2) + "\n")
            else:
                print_columns(_COLUMNS, [(f.name, f.what, f.then) for f in (*result.flaws, *notes)], sys.stdout)
                sys.stdout.write(format_verification(result) + "\n")
    return 1 if results[0].flaws else 0
