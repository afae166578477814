"""The session ``verify-image``: check that an image in a registry matches the locks of this checkout."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit.build.options import ModelChanges, PlannerOptions, open_remote_cache
from buildkit.build.planner import check_stage, open_planner
from buildkit.cli.options import add_arch_argument, add_remote_cache_arguments, make_parser, remote_cache_options
from buildkit.declare.target import ARCH_NAMES
from buildkit.errors import BuildError, DefinitionError
from buildkit.events import Emit
from buildkit.inspection.verify_image import (
    ImageVerification,
    compare_with_stage,
    make_checks,
    read_image,
    render_verdict,
)
from buildkit.inspection.verify_index import IndexVerification, RegistryIndex, find_index, render_index_verdict
from buildkit.oci.reference import Ref, parse_ref
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
    verifier = _ImageVerifier(folder=folder, options=options, key=key)
    with open_view(sys.stderr) as emit:
        index = find_index(ref, RegistryClient(threading.Event()))
        if index is not None:
            whole = verifier.verify_index(index, emit)
            return _print(whole.as_json(), render_index_verdict(whole), whole.holds, as_json=options.json)
        verdict = verifier.verify(ref, emit, arch=options.arch, tag=ref.tag if options.signed_tag else "")
    return _print(verdict.as_json(), render_verdict(verdict), verdict.holds, as_json=options.json)


def _print(value: dict[str, Any], lines: Sequence[str], holds: bool, *, as_json: bool) -> int:
    text = json.dumps(value, indent=2) if as_json else "\n".join(lines)
    sys.stdout.write(f"{text}\n")
    return 0 if holds else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _ImageVerifier:
    """Verifies images of one checkout; ``key`` is the one that must have signed them, if any."""

    folder: Path
    options: argparse.Namespace
    key: Verifier | None

    def verify(self, ref: Ref, emit: Emit, *, arch: str, tag: str = "") -> ImageVerification:
        """Verify an image for a processor, and with ``tag`` that this is signed, too."""
        options, key = self.options, self.key
        with open_planner(self.folder, emit, PlannerOptions(models=ModelChanges.REFUSE, arch=arch)) as planner:
            open_remote_cache(planner.context, remote_cache_options(options))
            registries = RegistryClient(planner.context.stop)
            stage = check_stage(planner.graph, options.stage)
            image = read_image(ref, registries)
            verdict = compare_with_stage(planner, image, stage)
            reader = AttachmentReader(image.ref, image.digest, registries, planner.context.blobs, key)
            signature = reader.signature(stage, planner.graph.stages, tag=tag)
            proofs = (signature, *reader.attestations(make_checks(planner, image, stage)))
            required = {"signature"} if key else set()
            required |= set(KIND_NAMES.values()) if options.attested else set()
            return replace(verdict, proofs=proofs, wanted=frozenset(required))

    def verify_index(self, index: RegistryIndex, emit: Emit) -> IndexVerification:
        """Verify an index and its images, or with ``--arch`` the one for that processor."""
        asked = self.options.arch
        images = [(ARCH_NAMES.get(image.arch, image.arch), image.digest) for image in index.images]
        if asked and asked not in dict(images):
            raise BuildError(f"{index.ref}: the index has no image for {asked}")
        verdicts = [
            (arch, self.verify(replace(index.ref, tag="", digest=digest), emit, arch=arch))
            for arch, digest in images
            if arch == (asked or arch)
        ]
        with open_planner(self.folder, emit, PlannerOptions(models=ModelChanges.REFUSE)) as planner:
            registries, blobs = RegistryClient(planner.context.stop), planner.context.blobs
            reader = AttachmentReader(index.ref, index.digest, registries, blobs, self.key)
            tag = index.ref.tag if self.options.signed_tag else ""
            signature = reader.signature(self.options.stage, planner.graph.stages, tag=tag)
        return IndexVerification(
            index=index,
            stage=self.options.stage,
            signature=signature,
            images=tuple(verdicts),
            must_be_signed=self.key is not None,
        )


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
    add_arch_argument(parser)
    add_remote_cache_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    return parser.parse_args(list(arguments))
