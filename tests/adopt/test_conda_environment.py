"""What conda's environment.yml says: lines of pip become an input, packages of conda are named with what to write."""

from __future__ import annotations

import pytest

from buildkit.adopt.conda import advise_conda, find_python, parse_environment
from buildkit.adopt.reading import RepositoryFacts
from buildkit.adopt.translate import translate
from buildkit.declare.instructions import read_containerfile
from buildkit.errors import DefinitionError

ENVIRONMENT = """name: speech
channels: [conda-forge]
dependencies:
  - python=3.11
  - pip
  - numpy=1.26
  - ffmpeg>=6
  - pip:
      - fastapi==0.111.0
      - -r more.txt
      - git+https://x.example/y
variables:
  MODEL_HOME: /data
"""
CONTAINERFILE = """FROM continuumio/miniconda3:24.7.1-0
SHELL ["/bin/bash", "--login", "-c"]
WORKDIR /srv
COPY conda/environment.yml .
RUN conda env create -f environment.yml && conda clean -afy
ENV PATH=/opt/conda/envs/speech/bin:$PATH
COPY src src
CMD ["conda", "run", "--no-capture-output", "-n", "speech", "python", "src/serve.py"]
"""


def test_environment() -> None:
    found = parse_environment(ENVIRONMENT, "conda/environment.yml", "api")
    assert (found.python, found.lines, found.files) == (
        "3.11",
        ("fastapi==0.111.0", "y @ git+https://x.example/y"),
        ("more.txt",),
    )
    assert found.variables == (("MODEL_HOME", "/data"),)
    told = {left.line: left.advice for left in found.leftovers}
    assert told.keys() == {6, 7, 11}
    assert told[6] == "a package of conda: write `numpy==1.26.*` into requirements/api.in"
    assert told[7] == "no Python package: write `ffmpeg` into requirements/base.apt"


@pytest.mark.parametrize(
    ("spec", "advice"),
    [
        ("pytorch::pytorch=2.3.1", "write `torch==2.3.1`"),
        ("pandas =2.2.2=py311_0", "write `pandas==2.2.2`"),
        ("scikit-learn>=1.4,<2", "write `scikit-learn>=1.4,<2`"),
        ("cudatoolkit=11.8", "nothing to write"),
        ("libsndfile", "`libsndfile1` into requirements/base.apt"),
        ("gxx_linux-64", "requirements/builder.apt"),
        ("pip", ""),
        ("python>=3.11", ""),
    ],
)
def test_what_to_write_for_a_package_of_conda(spec: str, advice: str) -> None:
    assert advice in advise_conda(spec, "app")
    assert bool(advice) == bool(advise_conda(spec, "app"))


def test_python_of_a_spec() -> None:
    assert [find_python(spec) for spec in ("python=3.11", "python>=3.12", "python", "numpy=3.1")] == [
        "3.11",
        "3.12",
        "",
        "",
    ]


def test_containerfile_of_an_environment() -> None:
    file = read_containerfile(CONTAINERFILE, "Dockerfile")
    facts = RepositoryFacts(
        exists=lambda path: path in ("conda/environment.yml", "src", "src/"), read=lambda _: ENVIRONMENT, python="3.11"
    )
    image, leftovers = translate(file, file.stages[0], facts)
    assert image.root is not None
    assert (image.root.suite, image.root.python) == ("bookworm", "3.11")
    assert image.wheels.lines == ("-r conda/more.txt", "fastapi==0.111.0", "y @ git+https://x.example/y")
    assert (image.cmd, image.env) == (("python", "src/serve.py"), {"MODEL_HOME": "/data"})
    assert [(found.file, found.line) for found in leftovers] == [
        ("Dockerfile", 1),
        *(("conda/environment.yml", line) for line in (6, 7, 11)),
    ]


ENDLESS = (
    "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)),
    "a: &a { b: *a }",
)


@pytest.mark.parametrize("text", ["a: [", "- a", "!!python/object/apply:os.system [id]", *ENDLESS])
def test_environment_that_is_none(text: str) -> None:
    with pytest.raises(DefinitionError, match=r"^environment\.yml: it "):
        parse_environment(text, "environment.yml")
