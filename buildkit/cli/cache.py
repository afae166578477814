"""The session ``cache``: list, measure, clean and verify the cache, and explain keys."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from buildkit.cache_admin.inventory import DOWNLOAD, TREE, WHEEL
from buildkit.cli.options import Parser, make_parser
from buildkit.plan.spec import Kind

_UNITS = {"": 1, "b": 1} | {
    unit: base**power
    for base, units in (
        (1000, ("kb", "mb", "gb", "tb")),
        (1024, ("kib", "mib", "gib", "tib")),
        (1024, ("k", "m", "g", "t")),  # as df, podman and Docker have it
    )
    for power, unit in enumerate(units, 1)
}

_SIZE_HELP = "delete until the cache is no larger; 10GB are 10 * 1000^3 bytes, 10GiB and 10G are 10 * 1024^3"


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Run a sub-command; return the exit code. Raises DefinitionError and BuildError."""
    options = parse_cache_options(arguments)
    match options.command:
        case "ls":
            from buildkit.cli.cache_ls import list_cache

            return list_cache(folder, stage=options.stage, kind=options.kind, as_json=options.json)
        case "du":
            from buildkit.cli.cache_du import print_disk_usage

            return print_disk_usage(folder, as_json=options.json)
        case "gc":
            from buildkit.cache_admin.gc import GcOptions
            from buildkit.cli.cache_gc import gc_cache

            gc_options = GcOptions(max_size=options.max_size, keep_days=options.keep_days, dry_run=options.dry_run)
            return gc_cache(folder, gc_options, as_json=options.json)
        case "rm":
            from buildkit.cli.cache_rm import remove_images

            return remove_images(options.images, as_json=options.json)
        case "verify":
            from buildkit.cli.cache_verify import verify

            return verify(folder, as_json=options.json)
        case _:
            from buildkit.cli.cache_why import explain_key

            return explain_key(folder, options.key, as_json=options.json)


def parse_cache_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments; raises DefinitionError."""
    parser = make_parser("cache")
    commands = parser.add_subparsers(dest="command", required=True, metavar="ls | du | gc | rm | verify | why")
    common = Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the answer as JSON")
    ls = commands.add_parser("ls", parents=[common], help="every layer, wheel and download")
    ls.add_argument("stage", nargs="?", metavar="STAGE", help="only what this stage needs or built")
    ls.add_argument("--kind", choices=(*map(str, Kind), DOWNLOAD, WHEEL, TREE), help="only things of this kind")
    commands.add_parser("du", parents=[common], help="disk usage by kind and stage")
    gc = commands.add_parser("gc", parents=[common], help="drop what no stage needs")
    gc.add_argument("--max-size", type=parse_size, metavar="10GB", help=_SIZE_HELP)
    gc.add_argument("--keep-days", type=_parse_days, metavar="N", help="keep what was used in N days (default: 14)")
    gc.add_argument("--dry-run", action="store_true", help="only print what would be dropped")
    rm = commands.add_parser("rm", parents=[common], help="remove images from the image store")
    rm.add_argument("images", nargs="+", metavar="IMAGE", help="a name, such as app/runtime:latest, or an id")
    commands.add_parser("verify", parents=[common], help="re-read everything, and drop what is damaged")
    why = commands.add_parser("why", parents=[common], help="explain a key")
    why.add_argument("key", metavar="KEY", help="the beginning of a key, digest or diff_id, or a layer's name")
    return parser.parse_args(list(arguments))


def parse_size(text: str) -> int:
    """Return the bytes of ``10GB``, ``1.5 GiB``, ``10G`` (GiB) or ``5000``; raises ArgumentTypeError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([a-z]*)", text.lower())
    if match is None or match[2] not in _UNITS:
        raise argparse.ArgumentTypeError(f"must be a size such as 10GB, 500MB, 1.5GiB, 10G or 5000, not {text!r}")
    return int(float(match[1]) * _UNITS[match[2]])


def _parse_days(text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise argparse.ArgumentTypeError(f"must be a number of days from 0 on, not {text!r}")
    return float(text)
