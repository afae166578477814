"""SBOMs: their content, their validity by the schemas, and that they depend on their inputs alone."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from buildkit.digest import DiffId, Digest, FileHash
from buildkit.layers.root.installed import InstalledPackages
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob, LayerResult
from buildkit.supply.collect import SbomInputs, collect
from buildkit.supply.components import Component, ComponentKind, Sbom
from buildkit.supply.cyclonedx import render_cyclonedx
from buildkit.supply.licences import parse_metadata
from buildkit.supply.spdx import render_spdx
from tests.layers.test_installed import STATUS, stanza, tar
from tests.plan.planfakes import STAGES, base_checkout, composer, wheel

COMMIT = "c" * 40
DEP5 = (
    "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: public-domain\n"
)
IMAGE = "docker.io/library/debian:trixie@sha256:" + "d" * 64


def blob(name: str) -> Blob:
    data = name.encode()
    return Blob(digest=Digest.of(data), diff_id=DiffId.of(data), size=1, unpacked=2, compression=Compression.ZSTD)


def facts(**more: object) -> SbomInputs:
    known = SbomInputs(image="p/runtime", version="1.0", arch="amd64", maker="0.1", commit=COMMIT, time=1_700_000_000)
    return replace(known, **more)  # type: ignore[arg-type]


def built(stage: str = "runtime", stages: dict[str, str] | None = None, several: int = 1) -> tuple[Sbom, dict]:
    """The bill of a stage whose layers were all made, with a root that was read."""
    composition = composer(stages).compose(stage)
    made = {
        spec.key: LayerResult(
            blobs=tuple(blob(f"{spec.name}{n}") for n in range(several if spec.kind == "image" else 1))
        )
        for spec in composition.specs
    }
    inside = InstalledPackages()
    for number in range(sum(len(made[spec.key].blobs) for spec in composition.root)):
        status = stanza("libc6", "2.41", Source="glibc (2.41)") + stanza("python3.13", "3.13.5")
        status += stanza("later", "1.0") if number else ""
        inside.add((tar({STATUS: status, "usr/share/doc/libc6/copyright": DEP5}),), "root")
    texts = {
        "heavy": "Name: heavy\nVersion: 1.0\nLicense-Expression: MIT OR Apache-2.0\n",
        "light": "Name: light\nVersion: 1.0\nLicense: our own\n",
        "native": "Name: native\nVersion: 1.0\nClassifier: License :: OSI Approved :: MIT License\n",
    }
    sbom = collect(
        composition,
        facts(
            results=made,
            installed=inside,
            metadata=lambda artifact, *_: parse_metadata(texts[artifact.name]) if artifact.name in texts else None,
            compiled=lambda _key: FileHash.of(b"compiled"),
            lock_parents={"light": ("heavy",), "native": ("light", "elsewhere"), "heavy": ()},
            config=Digest.of(b"config"),
        ),
    )  # fmt: skip
    return sbom, {spec.name: made[spec.key].blobs for spec in composition.specs}


def by_name(sbom: Sbom) -> dict[str, Component]:
    return {part.name: part for part in sbom.components}


def layer_of(part: Component) -> str:
    (place,) = part.places
    return place.layer


def validate_cyclonedx(text: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_sbom_has_every_wheel_model_tree_and_package_with_its_layer() -> None:
    sbom, blobs = built()
    components = by_name(sbom)
    assert {part.name for part in sbom.components if part.kind is ComponentKind.WHEEL} == {
        "heavy",
        "light",
        "thin",
        "native",
    }
    assert {part.name for part in sbom.components if part.kind is ComponentKind.MODEL} == {
        "vad",
        "vad/big.bin",
    }
    assert {part.name for part in sbom.components if part.kind is ComponentKind.DEBIAN} == {
        "libc6",
        "python3.13",
    }
    assert {part.name for part in sbom.components if part.kind is ComponentKind.APPLICATION} == {
        "runtime/app",
        "runtime/conf",
    }
    assert all(place.blob in blobs[place.layer] for part in sbom.components for place in part.places)
    heavy = next(a for a in base_checkout().wheels["deps.txt"] if a.name == "heavy")
    assert (components["heavy"].sha256, layer_of(components["heavy"])) == (heavy.sha256, "deps/heavy")
    assert components["heavy"].purl == "pkg:pypi/heavy@1.0"
    assert components["heavy"].licence.expression == "MIT OR Apache-2.0"
    assert components["light"].licence.names == ("our own",)
    assert "not at hand" in components["thin"].licence.missing
    assert [file.path for file in components["vad"].files] == ["/models/vad/a.json", "/models/vad/b.json"]
    assert components["vad"].licence.expression == "MIT"
    assert [file.path for file in components["runtime/app"].files] == ["/app/main.py", "/app/run.sh"]
    assert components["runtime/app"].version == COMMIT
    assert components["libc6"].purl == "pkg:deb/debian/libc6@2.41?arch=amd64&distro=trixie&upstream=glibc%402.41"
    assert components["libc6"].licence.names == ("public-domain",)


def test_compiled_wheel_has_its_own_hash_and_names_its_sdist() -> None:
    native = by_name(built()[0])["native"]
    sdist = next(a for a in base_checkout().wheels["deps.txt"] if a.name == "native")
    assert native.sha256 == FileHash.of(b"compiled")
    assert [(origin.what, origin.sha256) for origin in native.origins] == [("sdist", sdist.sha256)]
    assert dict(native.notes)["compiled"].startswith("sha256:")


def test_dependencies_follow_the_locks() -> None:
    components = by_name(built()[0])
    assert components["heavy"].needs == (components["light"].ref,)
    assert components["light"].needs == (components["native"].ref,)
    assert components["native"].needs == ()


def test_sbom_from_locks_alone_lacks_only_digests() -> None:
    whole, bare = built()[0], collect(composer().compose("runtime"), facts())
    assert {(part.kind, part.name, part.version) for part in bare.components} == {
        (part.kind, part.name, part.version) for part in whole.components
    }
    assert all(place.blob is None for part in bare.components for place in part.places)
    assert all(not layer.blobs for layer in bare.layers)
    assert bare.config is None
    assert by_name(bare)["libc6"].purl == "pkg:deb/debian/libc6@2.41?distro=trixie"
    assert by_name(bare)["libc6"].licence.missing == "the root's layers are not at hand: build the stage here"


def test_packages_that_a_step_adds_belong_to_its_layer() -> None:
    sbom, _ = built("builder")
    assert layer_of(by_name(sbom)["libc6"]) == "base/root"
    assert layer_of(by_name(sbom)["later"]) == "builder/apt builder.apt"
    assert [layer.name for layer in sbom.layers if not layer.known] == ["builder/apt builder.apt", "builder/prepare"]
    bare = collect(composer().compose("builder"), facts())
    assert layer_of(by_name(bare)["gcc"]) == "builder/apt builder.apt"


def test_registry_image_is_a_component_and_packages_name_their_blob() -> None:
    stages = STAGES | {"base": f'summary = "b"\n[root]\nimage = "{IMAGE}"\n'}
    sbom, blobs = built("runtime", stages, several=3)
    components = by_name(sbom)
    image = components["docker.io/library/debian:trixie"]
    assert image.purl.startswith("pkg:oci/debian@sha256:ddd")
    assert components["libc6"].places[0].blob == blobs["base/image"][0]
    assert components["later"].places[0].blob == blobs["base/image"][1]
    validate_cyclonedx(render_cyclonedx(sbom).decode())


def test_package_records_that_a_root_excludes_are_not_in_its_sbom() -> None:
    stages = STAGES | {"base": STAGES["base"].replace("usr/share/man/**", "var/lib/dpkg/status.d/python3.13")}
    sbom = collect(composer(stages).compose("base"), facts())
    assert [part.name for part in sbom.components] == ["libc6"]
    stages = STAGES | {"base": STAGES["base"].replace("usr/share/man/**", "var/lib/dpkg")}
    bare = collect(composer(stages).compose("base"), facts())
    assert [part.name for part in bare.components] == [
        "libc6",
        "python3.13",
    ]  # they are there, though nothing says so


@pytest.mark.parametrize("stage", ["runtime", "builder"])
@pytest.mark.parametrize("whole", [True, False])
def test_cyclonedx_is_valid_and_complete(stage: str, whole: bool) -> None:
    sbom = built(stage)[0] if whole else collect(composer().compose(stage), facts())
    text = render_cyclonedx(sbom).decode()
    validate_cyclonedx(text)
    document = json.loads(text)
    refs = [part["bom-ref"] for part in document["components"]]
    assert sorted(refs) == sorted(part.ref for part in sbom.components)
    assert {entry["ref"] for entry in document["dependencies"]} == {*refs, "image:p/runtime"}
    assert document["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    layers = document["metadata"]["component"]["components"]
    assert [layer["name"] for layer in layers] == [layer.name for layer in sbom.layers]


def test_cyclonedx_ties_each_component_to_a_layer_of_the_image() -> None:
    sbom, blobs = built()
    document = json.loads(render_cyclonedx(sbom))
    layers = document["metadata"]["component"]["components"]
    digests = {blob["name"] for layer in layers for blob in layer["components"]}
    assert digests == {str(one.digest) for some in blobs.values() for one in some}
    for part in document["components"]:
        entries = {entry["name"]: entry["value"] for entry in part["properties"]}
        assert entries["buildkit:layer:digest"] in digests
    assert {"name": "buildkit:image:config", "value": str(sbom.config)} in document["metadata"]["component"][
        "properties"
    ]


@pytest.mark.parametrize("stage", ["runtime", "builder"])
def test_spdx_is_valid_and_complete(stage: str, tmp_path) -> None:
    whole, bare = built(stage)[0], collect(composer().compose(stage), facts(time=None, commit=""))
    registrys = STAGES | {"base": f'summary = "b"\n[root]\nimage = "{IMAGE}"\n'}
    bills = (whole, bare, built("runtime", registrys, several=2)[0])
    for number, sbom in enumerate(bills):
        (tmp_path / f"{number}.spdx.json").write_bytes(render_spdx(sbom))
    validate_spdx(*(str(tmp_path / f"{number}.spdx.json") for number in range(len(bills))))
    document = json.loads((tmp_path / "0.spdx.json").read_text())
    purls = [ref["referenceLocator"] for p in document["packages"] for ref in p.get("externalRefs", ())]
    assert sorted(purls) == sorted(part.purl for part in whole.components if part.purl)
    assert json.loads((tmp_path / "1.spdx.json").read_text())["creationInfo"]["created"] == "1970-01-01T00:00:00Z"
    held = {r["relatedSpdxElement"] for r in document["relationships"] if r["relationshipType"] == "CONTAINS"}
    assert held == {p["SPDXID"] for p in document["packages"]} - {"SPDXRef-Image"}


def validate_spdx(*files: str) -> None:
    """The reference library warns of other libraries, so it runs on its own."""
    code = (
        "import sys\n"
        "from spdx_tools.spdx.parser.parse_anything import parse_file\n"
        "from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document\n"
        "found = [m.validation_message for f in sys.argv[1:] for m in validate_full_spdx_document(parse_file(f))]\n"
        "sys.exit('\\n'.join(found) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("render", [render_cyclonedx, render_spdx])
def test_equal_sboms_have_equal_bytes_and_others_another_id(render) -> None:
    one, _ = built()
    assert render(one) == render(built()[0])
    turned = replace(one, components=tuple(by_name(one)[part.name] for part in one.components))
    assert render(turned) == render(one)
    other = json.loads(render(replace(one, commit="e" * 40)))
    first = json.loads(render(one))
    key = "serialNumber" if "serialNumber" in first else "documentNamespace"
    assert first[key] != other[key]


def test_sbom_without_a_known_time_has_none() -> None:
    document = json.loads(render_cyclonedx(collect(composer().compose("runtime"), facts(time=None))))
    assert "timestamp" not in document["metadata"]


def test_file_of_two_stages_is_one_component_in_two_layers() -> None:
    more = {"more": 'summary = "m"\n[wheels]\nlocks = ["more.txt"]\n'}
    stages = STAGES | more | {"runtime": STAGES["runtime"].replace('"weights"', '"weights", "more"')}
    checkout = base_checkout()
    checkout.wheels["more.txt"] = tuple(a for a in checkout.wheels["deps.txt"] if a.name == "light")
    checkout.wheels["more.txt"] += (wheel("other"), replace(wheel("thin"), sha256=FileHash.of(b"another file")))
    sbom = collect(composer(stages, checkout, settings="bins = 1").compose("runtime"), facts())
    assert sorted(place.layer for place in by_name(sbom)["light"].places) == ["deps/bin-0", "more/bin-0"]
    assert len([part for part in sbom.components if part.name == "thin"]) == 2  # one version, two files
    validate_cyclonedx(render_cyclonedx(sbom).decode())


def test_hostile_texts_are_escaped_in_documents() -> None:
    """Names and licences of a registry's image are whatever somebody wrote."""
    stages = STAGES | {"base": f'summary = "b"\n[root]\nimage = "{IMAGE}"\n'}
    composition = composer(stages).compose("base")
    inside = InstalledPackages()
    evil = "Name: a\x1b[31m\u202eb\x00\nVersion: 1\nLicense: x\x9by\n"
    raw = tar({"opt/a\udcff.dist-info/METADATA": evil, STATUS: stanza("li\x1bb", "1\u2028")})
    inside.add((raw,), "root")
    made = {spec.key: LayerResult(blobs=(blob(spec.name),)) for spec in composition.specs}
    sbom = collect(composition, facts(results=made, installed=inside))
    assert {part.kind for part in sbom.components} == {
        ComponentKind.IMAGE,
        ComponentKind.WHEEL,
        ComponentKind.DEBIAN,
    }
    for document in (render_cyclonedx(sbom), render_spdx(sbom)):
        assert all(32 <= byte < 127 or byte == 10 for byte in document)
        json.loads(document)


def test_uncommitted_changes_are_recorded() -> None:
    sbom = collect(composer().compose("runtime"), facts(dirty=True))
    assert by_name(sbom)["runtime/app"].version == f"{COMMIT}-dirty"
    recorded = json.loads(render_cyclonedx(sbom))["metadata"]["component"]["properties"]
    assert {"name": "buildkit:dirty", "value": "true"} in recorded
    image = next(p for p in json.loads(render_spdx(sbom))["packages"] if p["SPDXID"] == "SPDXRef-Image")
    assert image["sourceInfo"] == f"commit {COMMIT}, and files that differ from it"


def test_own_python_is_a_component_with_its_archive_and_licence() -> None:
    sbom = collect(composer(settings="interpreter = 'standalone'").compose("deps"), facts())
    (python,) = (part for part in sbom.components if part.kind is ComponentKind.PYTHON)
    assert (python.name, python.version, python.licence.expression) == ("python", "3.13.9", "Python-2.0")
    assert python.purl.startswith("pkg:generic/python@3.13.9?checksum=sha256:")
    assert [place.layer for place in python.places] == ["/opt/python"]
    document = json.loads(render_cyclonedx(sbom))
    (written,) = (part for part in document["components"] if part["name"] == "python")
    assert written["type"] == "application"
    assert written["externalReferences"][0]["url"].endswith("install_only_stripped.tar.gz")
    validate_cyclonedx(render_cyclonedx(sbom))
