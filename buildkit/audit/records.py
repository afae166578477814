"""Check that records of packages name files that are there: dpkg's sums, and RECORD of wheels."""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Iterator

from buildkit.audit import file_rules as rules
from buildkit.audit.layer_view import TarEntry
from buildkit.audit.view import ImageView, clean_path, format_untrusted
from buildkit.findings import Finding
from buildkit.layers.root.dpkg import DOCUMENTATION

RECORDS = re.compile(r"var/lib/dpkg/(?:info|status\.d)/[^/]+\.md5sums|.+\.dist-info/RECORD")
LARGEST = 4 << 20  # bytes of a record that is read


def check_records(view: ImageView) -> Iterator[Finding]:
    """Compare each record with the final view. Documentation and bytecode may be left out of an image."""
    for path, entry in view.files.items():
        if entry.kind == "file" and RECORDS.fullmatch(path) and (what := _compare(view, entry)):
            digest = view.layers[entry.layer].digest
            yield Finding(rule=rules.RECORD_WRONG, what=what, path=format_untrusted(path, 4096), layer=digest)


def _compare(view: ImageView, entry: TarEntry) -> str:
    if entry.content is None:
        return f"it was not compared: it is larger than {LARGEST >> 20} MiB" if entry.size else ""
    listed = list(_listed(entry.path, entry.content.decode("utf-8", "replace")))
    missing = [path for path in listed if path not in view.files and view.find(path) is None]
    if not missing:
        return ""
    return f"{len(missing)} of the {len(listed)} files that it lists are missing, {format_untrusted(missing[0])} first"


def _listed(record: str, text: str) -> Iterator[str]:
    """Yield the paths that a record lists: deb-md5sums(5), or the specification of recorded installed projects."""
    if record.endswith(".md5sums"):
        paths = (line.partition("  ")[2].strip() for line in text.splitlines())
        yield from (clean_path(path) for path in paths if path and not path.startswith(DOCUMENTATION))
        return
    site = posixpath.dirname(posixpath.dirname(record))
    for row in csv.reader(text.replace("\0", "").splitlines()):
        if row and row[0] and not row[0].endswith(".pyc"):
            yield clean_path(posixpath.normpath(posixpath.join("/", site, row[0])))
