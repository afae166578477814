"""The session ``push-models``: give the project's models to others, as artifacts of a registry."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.build.attestations import open_attestations
from buildkit.build.context import BuildContext, open_context
from buildkit.build.model_gate import refusal_error
from buildkit.build.model_push import PushedModel, push_model
from buildkit.cli.options import make_parser
from buildkit.declare.model_allowlist import load_allowlist
from buildkit.declare.project import load_project
from buildkit.declare.schema import suggest_word
from buildkit.errors import BuildError, DefinitionError
from buildkit.inspection.scan_run import ScanRun, UnreadableFile
from buildkit.inspection.scan_targets import ScanTarget, find_targets
from buildkit.locks.pins import Model
from buildkit.oci.reference import Ref, parse_ref
from buildkit.report.text import format_bytes
from buildkit.report.view import open_view
from buildkit.tools.registry import RegistryClient

_FORMATS = ("modelpack",)


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Scan, push and print; raises DefinitionError, ModelError for what the scan refuses, and RegistryError.

    Without ``--as`` this is the session that pushes a stage `models` as an image, where there is one.
    """
    if (folder / "stages/models/stage.toml").exists() and not any(word.startswith("--as") for word in arguments):
        from buildkit.cli.build import run_push

        run_push(folder, "models", arguments)
        return
    options = _parse(arguments)
    ref = parse_ref(options.ref, "REF")
    if ref.digest:
        raise DefinitionError(f"REF: {ref} is a digest", hint="write REGISTRY/PATH:TAG")
    attestations = open_attestations(attest=False, key=options.sign_by)
    signer = attestations.signer if attestations else None
    with open_view(sys.stderr) as emit, open_context(load_project(folder.absolute()), emit) as context:
        targets = _chosen(find_targets(context, ()), options.model)
        models = {target.model.name: target.model for target in targets if target.model}
        places = {name: ref if options.model else _below(ref, name) for name in models}
        _check(context, targets)
        registries = RegistryClient(context.stop)
        pushed = [push_model(context, registries, model, places[name], signer) for name, model in models.items()]
    _print(pushed, as_json=options.json)


def _chosen(targets: Sequence[ScanTarget], name: str) -> list[ScanTarget]:
    names: dict[str, Model] = {}
    for target in targets:
        if target.model and names.setdefault(target.model.name, target.model) != target.model:
            raise DefinitionError(f"two locks have different models `{target.model.name}`")
    if not names:
        raise DefinitionError("no stage has a model")
    if name and name not in names:
        raise DefinitionError(f"no stage has a model `{name}`", hint=suggest_word(name, sorted(names)))
    return [target for target in targets if target.model and name in ("", target.model.name)]


def _below(ref: Ref, name: str) -> Ref:
    """Return the name of one of several models: ``REGISTRY/PATH/NAME`` with the tag of ``ref``."""
    tag = f":{ref.tag}" if ref.tag else ""
    return parse_ref(f"{ref.repository}/{name.lower()}{tag}", f"model {name}")


def _check(context: BuildContext, targets: Sequence[ScanTarget]) -> None:
    """Raise ModelError for a file that the scan refuses, as a build does, and BuildError for one that is not read."""
    allow = load_allowlist(context.project.folder)
    for outcome in ScanRun(context, allow).run(list(targets)):
        if isinstance(outcome, UnreadableFile):
            raise BuildError(f"{outcome.target.name}: {outcome.why}")
        if outcome.judgement.is_refused(context.project.unscanned_models):
            raise refusal_error(outcome.target.name, outcome.judgement)


def _print(pushed: Sequence[PushedModel], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "model": one.name,
                "ref": str(one.ref),
                "digest": str(one.digest),
                "size": one.size,
                "uploaded": one.uploaded,
            }
            for one in pushed
        ]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    for one in pushed:
        new = f"{format_bytes(one.uploaded)} of {format_bytes(one.size)} went up" if one.uploaded else "nothing new"
        sys.stdout.write(f'{one.name}: {new}; source = "oci:{one.ref.repository}@{one.digest}"\n')


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("push-models")
    parser.add_argument("ref", metavar="REF", help="REGISTRY/PATH[:TAG]; each model goes to PATH/NAME")
    parser.add_argument("--as", dest="format", choices=_FORMATS, required=True, help="the format")
    parser.add_argument("--model", default="", metavar="NAME", help="push this model alone, to REF itself")
    parser.add_argument("--sign-by", type=Path, metavar="KEY", help="sign what is pushed with a private key (PEM)")
    parser.add_argument("--json", action="store_true", help="print names, digests and bytes as JSON")
    return parser.parse_args(list(arguments))
