"""No false alarms: what real libraries write is clean. Those that are installed here make their files here.

``BUILDKIT_BENIGN`` is a folder that ``python tests/scan/benign.py FOLDER`` filled where all the libraries are.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from buildkit.declare.model_allowlist import LIBRARIES as LISTED
from buildkit.scan import UNKNOWN_CONTENT, BytesSource, FileSource, Scan, Verdict, library_globals, scan
from tests.scan.benign import LIBRARIES

# What is a finding, rightly: loading it evaluates Python, or calls whatever it names. And raw numbers, which have no
# format to be known by.
CODE = {
    "statsmodels-formula.pkl", "statsmodels-formula-saved.pickle", "statsmodels-formula-glm.pkl",
    "statsmodels-formula-glm-saved.pickle", "dill.pkl",
}  # fmt: skip
RAW = {"onnx.data", "tensorflow/variables/variables.data-00000-of-00001", "tf-checkpoint-1.data-00000-of-00001"}
ALLOWED = library_globals(LISTED)


def scan_folder(folder: Path) -> dict[str, Scan]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = scan(path.name, FileSource.of(file), allowed=ALLOWED)
    return found


def check(scans: dict[str, Scan]) -> None:
    wrong = {name: one for name, one in scans.items() if one.verdict is not Verdict.CLEAN and name not in CODE | RAW}
    assert wrong == {}
    for name in CODE & scans.keys():
        assert {one.rule.id for one in scans[name].findings} <= {"pickle-code-state", "pickle-runs-code"}
    for name in RAW & scans.keys():
        assert not scans[name].findings
        assert {gap.why for gap in scans[name].gaps} == {UNKNOWN_CONTENT}


# More than a hundred with the libraries of the tests' own dependency group alone.
LEAST = {
    "plain": 19, "numpy": 27, "joblib": 6, "scipy": 7, "sklearn": 46, "safetensors": 3, "onnx": 3, "h5py": 2,
    "ufuncs": 19, "others": 2,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # the libraries' own, of versions to come and of models that learn nothing
@pytest.mark.parametrize("library", LEAST)
def test_file_written_by_library_is_clean(library: str, tmp_path: Path) -> None:
    _, make = LIBRARIES[library]
    make(tmp_path)
    scans = scan_folder(tmp_path)
    assert len(scans) >= LEAST[library]
    check(scans)


def test_files_written_by_all_libraries_are_clean() -> None:
    folder_name = os.environ.get("BUILDKIT_BENIGN")
    if not folder_name:
        pytest.skip("BUILDKIT_BENIGN names no folder that tests/scan/benign.py filled")
    scans = scan_folder(Path(folder_name))
    check(scans)
    clean = [name for name, one in scans.items() if one.verdict is Verdict.CLEAN]
    print(f"{len(clean)} of {len(scans)} files of real libraries are clean")
    assert len(clean) >= 100


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_keras_backend_optimizer_is_not_a_foreign_module(backend: str) -> None:
    model = {
        "module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": []}, "registered_name": None,
        "compile_config": {"optimizer": {
            "module": f"keras.src.backend.{backend}.optimizers.{backend}_adam", "class_name": "Adam", "config": {},
            "registered_name": "Adam",
        }},
    }  # fmt: skip
    assert scan("config.json", BytesSource(json.dumps(model).encode())).verdict is Verdict.CLEAN
