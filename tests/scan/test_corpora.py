"""The public malicious corpora of two other scanners; their samples are not ours to carry, so they are named.

``BUILDKIT_CORPORA`` is a folder with checkouts of https://github.com/mmaitre314/picklescan and
https://github.com/promptfoo/modelaudit as ``picklescan`` and ``modelaudit``. Nothing of them is loaded or imported.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit.scan import FileSource, Scan, Verdict, scan

MALICIOUS = (
    "picklescan/tests/data/malicious*",
    "picklescan/tests/data/broken_model.pkl",
    "picklescan/tests/data/pytorch_magic_bypass.pt",
    "picklescan/tests/data/sys_module_override_sploit.pkl",
    "picklescan/tests/data2/*.pkl",
    "picklescan/tests/data2/*.bin",
    "picklescan/tests/data2/dns_exfiltration.npy",
    "modelaudit/tests/assets/exploits/*.pkl",
    "modelaudit/tests/assets/pickles/*.pkl",
    "modelaudit/tests/assets/samples/pickles/malicious*",
    "modelaudit/tests/assets/samples/pickles/evil.pickle",
    "modelaudit/tests/assets/samples/pickles/decode_exec_chain.pkl",
    "modelaudit/tests/assets/samples/pickles/dill_func.pkl",
    "modelaudit/tests/assets/samples/pickles/nested_pickle_*",
    "modelaudit/tests/assets/samples/pytorch/malicious*",
    "modelaudit/tests/assets/samples/keras/malicious*",
    "modelaudit/tests/assets/samples/safetensors/malicious*",
    "modelaudit/tests/assets/samples/tensorflow/malicious*/*",
    "modelaudit/tests/assets/samples/archives/path_traversal.zip",
    "modelaudit/tests/assets/samples/jinja2/malicious*",
    "modelaudit/tests/assets/samples/jinja2/*/malicious*",
    "modelaudit/tests/assets/samples/jinja2/malicious/*",
    "modelaudit/tests/assets/samples/jinja2/obfuscated/*",
    "modelaudit/tests/assets/samples/jinja2/tokenizer_config.json",
    "modelaudit/tests/assets/scenarios/security_scenarios/mixed_malicious_model/model.pkl",
)
BENIGN = (
    "picklescan/tests/data/benign0*",
    "picklescan/tests/data/new_pytorch_model.bin",
    "picklescan/tests/data/pytorch_model.bin",
    "picklescan/tests/data2/int_array*",
    "picklescan/tests/data2/object_array*",
    "modelaudit/tests/assets/samples/*/safe_*",
    "modelaudit/tests/assets/samples/jinja2/benign*",
    "modelaudit/tests/assets/samples/jinja2/*/benign*",
    "modelaudit/tests/assets/samples/jinja2/benign/*",
)


@pytest.fixture(scope="module")
def corpora() -> Path:
    folder_name = os.environ.get("BUILDKIT_CORPORA")
    if not folder_name:
        pytest.skip("BUILDKIT_CORPORA names no folder with checkouts of picklescan and modelaudit")
    return Path(folder_name)


def scan_all(corpora: Path, patterns: tuple[str, ...]) -> dict[str, Scan]:
    found: dict[str, Scan] = {}
    for pattern in patterns:
        paths = [path for path in sorted(corpora.glob(pattern)) if path.is_file()]
        assert paths, f"{pattern}: no such samples; are the checkouts there?"
        for path in paths:
            with path.open("rb") as file:
                found[path.relative_to(corpora).as_posix()] = scan(path.name, FileSource.of(file))
    return found


def test_malicious_corpus_samples_are_found(corpora: Path) -> None:
    scans = scan_all(corpora, MALICIOUS)
    missed = [path for path, one in scans.items() if one.verdict is not Verdict.FINDINGS]
    print(f"{len(scans) - len(missed)} of {len(scans)} malicious files found")
    assert len(scans) >= 118
    assert len(missed) <= len(scans) // 118, f"missed: {missed}"


def test_benign_corpus_samples_are_clean(corpora: Path) -> None:
    scans = scan_all(corpora, BENIGN)
    wrong = {path: one for path, one in scans.items() if one.verdict is not Verdict.CLEAN}
    print(f"{len(scans) - len(wrong)} of {len(scans)} benign files clean")
    assert wrong == {}
