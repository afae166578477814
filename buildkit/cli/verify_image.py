"""The session ``verify-image``: check that an image in a registry matches the locks of this checkout."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.options import ModelChanges, open_remote_cache
from buildkit.build.planner import check_stage, open_planner
from buildkit.cli.options import add_remote_cache_arguments, make_parser, remote_cache_options
from buildkit.errors import DefinitionError
from buildkit.inspection.verify_image import compare_with_stage, make_checks, read_image, render_verdict
from buildkit.oci.reference import parse_ref
from buildkit.remote.verification import KIND_NAMES, AttachmentReader
from buildkit.report.view import open_view
from buildkit.tools.registry import RegistryClient

if TYPE_CHECKING:
    from buildkit.tools.keys import Verifier


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Print whether an image is the named stage of this checkout; return 0 if it is, else 1.

    Raises DefinitionError and BuildError.
    """
    options = _parse(arguments)
    if not options.ref:  # the stage is ours to say: labels are the image's own words
        raise DefinitionError(
            f"verify-image: `{options.stage[:200]}` alone does not say which image of which stage",
            hint="name the stage that the image must be: nox -s verify-image -- STAGE REF",
        )
    ref = parse_ref(options.ref, "the image")
    ref = ref if ref.tag or ref.digest else ref.tagged("latest")
    if options.signed_tag and not (ref.tag and options.key):
        raise DefinitionError(
            "--signed-tag needs a tag and a key", hint="name the image by its tag, and give --key PUB"
        )
    key = _load_key(options.key)
    with open_view(sys.stderr) as emit, open_planner(folder, emit, models=ModelChanges.REFUSE) as planner:
        open_remote_cache(planner.context, remote_cache_options(options))
        registries = RegistryClient(planner.context.stop)
        stage = check_stage(planner.graph, options.stage)
        image = read_image(ref, registries)
        verdict = compare_with_stage(planner, image, stage)
        reader = AttachmentReader(image.ref, image.digest, registries, planner.context.blobs, key)
        signature = reader.signature(stage, planner.graph.stages, tag=ref.tag if options.signed_tag else "")
        proofs = (signature, *reader.attestations(make_checks(planner, image, stage)))
        required = {"signature"} if key else set()
        required |= set(KIND_NAMES.values()) if options.attested else set()
        verdict = replace(verdict, proofs=proofs, wanted=frozenset(required))
    text = json.dumps(verdict.as_json(), indent=2) if options.json else "\n".join(render_verdict(verdict))
    sys.stdout.write(f"{text}\n")
    return 0 if verdict.holds else 1


def _load_key(path: Path | None) -> Verifier | None:
    if path is None:
        return None
    from buildkit.tools.keys import load_verifier

    return load_verifier(path)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("verify-image")
    parser.add_argument("stage", metavar="STAGE", help="the stage that the image must be")
    parser.add_argument("ref", metavar="REF", nargs="?", default="", help="REGISTRY/NAME[:TAG][@DIGEST]")
    parser.add_argument("--key", type=Path, metavar="PUB", help="require a signature by this public key")
    parser.add_argument("--signed-tag", action="store_true", help="require a signature of the tag, too (needs --key)")
    parser.add_argument("--attested", action="store_true", help="require an attached SBOM and provenance")
    add_remote_cache_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    return parser.parse_args(list(arguments))
