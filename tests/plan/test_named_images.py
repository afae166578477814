"""Roots that are images of registries: what their keys come from, and what `[apt]` runs in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from planfakes import FakeCheckout
from stagegraphs import graph

from buildkit.declare.apt_archives import AptSource, Archives, PublicKey
from buildkit.declare.apt_sources import render_image_sources
from buildkit.declare.project import parse_project
from buildkit.declare.stage import Run, Stage
from buildkit.locks.pins import AptPin, PinnedImage
from buildkit.plan.compose import Composer
from buildkit.plan.roots import find_apt_pins, pull_spec, writes_sources
from buildkit.plan.spec import PullImage, RunStep, Spec
from buildkit.supply.root_components import system_of

DIGEST = f"sha256:{'a' * 64}"
NAME, PINNED = "docker.io/library/debian:13", f"docker.io/library/debian@{DIGEST}"
KEY = PublicKey(file="x.asc", text="-----BEGIN-----\n\nabc\n-----END-----\n")
VENDOR = AptSource(uri="https://apt.example.com", suite="/", key=KEY)


def root(image: str, checkout: FakeCheckout, more: str = "") -> tuple[Spec, ...]:
    stages = graph(base=f'[root]\nimage = "{image}"\n{more}', top='from = "base"\n[apt]\npackages = "top.apt"')
    project = parse_project('[tool.buildkit]\nname = "x"\narch = "x86_64"\n', Path("/nowhere"))
    return Composer(project, stages, checkout).compose("top").root


def checkout(sources: str = "") -> FakeCheckout:
    pins = {name: (AptPin(name="jq", version="1.7"),) for name in ("base.apt", "top.apt")}
    return FakeCheckout(apts=pins, images={NAME: PINNED}, archives=dict.fromkeys(pins, sources))


def test_key_of_a_name_is_that_of_the_digest_behind_it() -> None:
    by_name, by_digest = root(NAME, checkout()), root(PINNED, checkout())
    assert [spec.key for spec in by_name] == [spec.key for spec in by_digest]
    work = by_name[0].work
    assert isinstance(work, PullImage)
    assert (work.ref, by_name[0].history) == (f"{NAME}@{DIGEST}",) * 2


def test_labels_of_the_base_have_the_digest_that_the_lock_has_for_a_name() -> None:
    project = parse_project('[tool.buildkit]\nname = "x"\narch = "x86_64"\n', Path("/nowhere"))
    stages = graph(base=f'[root]\nimage = "{NAME}"\n')
    labels = dict(Composer(project, stages, checkout()).compose("base").config.labels)
    assert labels["org.opencontainers.image.base.name"] == NAME
    assert labels["org.opencontainers.image.base.digest"] == DIGEST


def test_first_apt_step_writes_the_archives_into_the_image() -> None:
    sources = render_image_sources("debian", "trixie", Archives(sources=(VENDOR,)), "amd64")
    steps = [spec.work.run.command for spec in root(NAME, checkout(sources), '[apt]\npackages = "base.apt"')[1:]
             if isinstance(spec.work, RunStep)]  # fmt: skip
    assert [find_apt_pins(command) for command in steps] == [["jq=1.7"]] * 2
    assert [writes_sources(command) for command in steps] == [True, False]
    assert "rm -f" not in steps[0][-1].partition("apt-get")[0], "they are added to those of the image"


@pytest.mark.parametrize(
    ("system", "codename", "lines"),
    [
        ("debian", "trixie", ["URIs: http://snapshot.debian.org/archive/debian/20261120T000000Z", "Components: main"]),
        ("ubuntu", "noble", ["URIs: https://snapshot.ubuntu.com/ubuntu/20261120T000000Z",
                             "Components: main restricted universe multiverse"]),
    ],
)  # fmt: skip
def test_snapshot_takes_the_place_of_the_images_archives(system: str, codename: str, lines: list[str]) -> None:
    archives = Archives(snapshot="20261120T000000Z", sources=(VENDOR,))
    sources = render_image_sources(system, codename, archives, "amd64")
    assert {*lines, "URIs: https://apt.example.com"} <= set(sources.splitlines())
    (_, step) = root(NAME, checkout(sources))
    assert isinstance(step.work, RunStep)
    assert step.work.run.command[-1].startswith("rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*; printf %s ")
    assert render_image_sources(system, codename, Archives(), "amd64") == ""


@pytest.mark.parametrize(("system", "purl"), [(("ubuntu", "noble"), "ubuntu"), (("", ""), "debian")])
def test_packages_on_an_image_are_those_of_its_distribution(system: tuple[str, str], purl: str) -> None:
    pinned = PinnedImage(ref=PINNED, pinned=PINNED, system=system)
    base = pull_spec(Stage(name="base", file="", summary=""), pinned, "amd64")
    work = RunStep(chain=(base,), run=Run(name="apt", command=("true",)))
    assert system_of(work) == (purl, system[1])
