"""The lists of libraries that a project switches on by name: all that their pickles need, and nothing to be misused.

The shapes are those that the libraries write; ``benign_tables.py`` writes whole files where they are installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from buildkit.build.context import open_context
from buildkit.build.model_scanner import ModelScanner
from buildkit.declare.model_allowlist import LIBRARIES, ModelAllowlist
from buildkit.declare.project import parse_project
from buildkit.errors import DefinitionError
from buildkit.scan import Scan, Verdict, library_globals
from buildkit.scan.pickle.lists import Standing, classify, load_list
from tests.scan.pickler import call, describe, named, number, pickle_stream, rules, scan_bytes, text, tuple_of

ALL = library_globals(LIBRARIES)
NONE = b"N"


def dict_of(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"


def made(module: str, name: str, state: bytes = b"}") -> bytes:
    """Push an object as protocol 2 writes it: created without arguments, then its state is set."""
    return named(module, name) + b")\x81" + state + b"b"


def scanned(body: bytes, allowed: frozenset[str] = ALL) -> Scan:
    return scan_bytes(pickle_stream(body), *allowed)


def index(name: str, **state: bytes) -> bytes:
    return call(named("pandas.core.indexes.base", "_new_Index"), named("pandas", name), dict_of(name=NONE, **state))


OFFSET = call(named("pandas._libs.tslibs.offsets", "Day"), number(1), b"\x89")
SHAPES = {
    "catboost": [
        made("catboost.core", "CatBoostClassifier", dict_of(_random_seed=NONE, __model=b"B\x04\0\0\0CBM1")),
        made("catboost.core", "CatBoostRegressor"),
        made("catboost.core", "CatBoost"),
    ],
    "lightgbm": [
        made("lightgbm.sklearn", "LGBMClassifier", dict_of(_Booster=made("lightgbm.basic", "Booster"), n_jobs=NONE)),
        made("lightgbm.basic", "Booster", dict_of(_network=b"\x89", handle=text("tree\nversion=v4\n"))),
    ],
    "optuna": [
        made("optuna.study.study", "Study", dict_of(
            study_name=text("s"), _storage=made("optuna.storages._in_memory", "InMemoryStorage"),
            sampler=made("optuna.samplers._random", "RandomSampler"),
            _directions=b"](" + call(named("optuna.study._study_direction", "StudyDirection"), number(1)) + b"e",
        )),
        call(named("optuna.trial._state", "TrialState"), number(1)),
        call(named("optuna.samplers._tpe.parzen_estimator", "_ParzenEstimatorParameters"), number(1), b"\x88",
             named("optuna.samplers._tpe.sampler", "default_weights")),
        made("optuna.samplers._tpe.sampler", "TPESampler",
             dict_of(_weights=named("optuna.samplers._tpe.sampler", "default_weights"))),
    ],
    "pandas": [
        made("pandas", "DataFrame", dict_of(_typ=text("dataframe"), attrs=b"}", _flags=dict_of(a=b"\x88"))),
        index("RangeIndex", start=number(0), stop=number(3), step=number(1)),
        call(named("pandas.core.internals.managers", "BlockManager"), tuple_of(), b"](" + index("Index") + b"e"),
        call(named("pandas._libs.tslibs.timestamps", "_unpickle_timestamp"), number(1), NONE, NONE, number(9)),
        call(named("pandas._libs.internals", "_unpickle_block"), number(1), call(named("builtins", "slice"), NONE)),
        OFFSET,
        made("pandas.core.frame", "DataFrame"),
    ],
    "statsmodels": [
        made("statsmodels.regression.linear_model", "RegressionResultsWrapper", dict_of(
            _results=made("statsmodels.regression.linear_model", "OLSResults", dict_of(__doc__=text("Results."))))),
        made("statsmodels.base.data", "PandasData", dict_of(orig_endog=NONE, xnames=b"]")),
        made("scipy.optimize._optimize", "OptimizeResult"),
    ],
    "xgboost": [
        made("xgboost.sklearn", "XGBClassifier", dict_of(_Booster=made("xgboost.core", "Booster"), missing=b"N")),
        made("xgboost.core", "Booster", dict_of(handle=b"\x96\x04\0\0\0\0\0\0\0binf")),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("library", "at"), [(name, at) for name, bodies in SHAPES.items() for at in range(len(bodies))]
)
def test_library_is_clean_only_where_it_is_switched_on(library: str, at: int) -> None:
    body = SHAPES[library][at]
    assert scanned(body, library_globals([library])).verdict is Verdict.CLEAN, describe(scanned(body))
    assert rules(scanned(body, frozenset())) == {"pickle-unknown-global"}
    assert rules(scanned(body, ALL - library_globals([library]))) == {"pickle-unknown-global"}


def test_every_library_that_can_be_switched_on_has_a_list_and_tests() -> None:
    assert list(LIBRARIES) == list(load_list("libraries.txt")) == list(SHAPES)


def test_lists_of_libraries_have_nothing_that_is_known_to_be_dangerous() -> None:
    for listed in sorted(ALL):
        module, _, name = listed.removesuffix("()").rpartition(".")
        assert classify(module, name) is Standing.UNKNOWN, listed


PATH = text("/etc/passwd")
BOOSTER = named("xgboost.core", "Booster")
MISUSED = {
    "constructor that opens a file": call(BOOSTER, NONE, NONE, PATH),
    "constructor that opens a file, of LightGBM": call(named("lightgbm.basic", "Booster"), NONE, NONE, PATH),
    "constructor that opens a file, by NEWOBJ": BOOSTER + tuple_of(PATH) + b"\x81",
    "constructor that opens a file, by NEWOBJ_EX": BOOSTER + b")" + dict_of(model_file=PATH) + b"\x92",
    "constructor that opens a file, by INST": b"(" + PATH + b"ixgboost.core\nBooster\n",
    "constructor that opens a file, by OBJ": b"(" + BOOSTER + PATH + b"o",
    "constructor handed to a function that calls it": call(
        named("torch._tensor", "_rebuild_from_type_v2"), BOOSTER, named("builtins", "int"), tuple_of(PATH), NONE
    ),
    "constructor handed over in a list": call(
        named("torch._tensor", "_rebuild_from_type_v2"), b"](" + BOOSTER + b"e", tuple_of(PATH)
    ),
    "constructor as the base that is called": call(named("copyreg", "_reconstructor"), BOOSTER, BOOSTER, PATH),
    "function that uses up memory": call(named("optuna.samplers._tpe.sampler", "default_weights"), number(2**30)),
    "NumPy's function with arguments": call(named("numpy", "left_shift"), number(1), number(2**30)),
    "NumPy's function as a factory": call(named("collections", "defaultdict"), named("numpy", "exp")),
}


@pytest.mark.parametrize("case", MISUSED)
def test_name_that_is_trusted_without_arguments_is_a_finding_with_some(case: str) -> None:
    assert rules(scanned(MISUSED[case])) == {"pickle-odd-arguments"}, describe(scanned(MISUSED[case]))


def test_name_that_the_user_trusts_may_have_arguments() -> None:
    assert scanned(MISUSED["constructor that opens a file"], ALL | {"xgboost.core.Booster"}).verdict is Verdict.CLEAN


def test_old_protocols_create_the_same_objects() -> None:
    body = call(named("copyreg", "_reconstructor"), BOOSTER, named("builtins", "object"), NONE) + b"}b"
    assert scanned(body).verdict is Verdict.CLEAN


def _formula(state: bytes, name: str = "PandasData") -> bytes:
    return made("statsmodels.base.data", name, state)


FORMULA = text("y ~ __import__('math').sqrt(4)")
DATA, OBJECT = named("statsmodels.base.data", "PandasData"), named("builtins", "object")
CODE = {
    "formula": _formula(dict_of(formula=FORMULA, restore_model_spec=b"\x88")),
    "formula, before 0.15": _formula(dict_of(formula=FORMULA, restore_design_info=b"\x88")),
    "formula of the base": _formula(dict_of(restore_design_info=b"\x88"), "ModelData"),
    "by an old protocol": call(named("copyreg", "_reconstructor"), DATA, OBJECT, NONE)
    + dict_of(restore_model_spec=b"\x88") + b"b",
    "unknown state": _formula(call(named("collections", "OrderedDict"))),
    "state with too many keys": _formula(dict_of(**{f"k{n}": NONE for n in range(100)}, restore_model_spec=b"\x88")),
    "key that is computed": _formula(b"}(" + call(named("builtins", "str"), FORMULA) + b"Nu"),
}  # fmt: skip


@pytest.mark.parametrize("case", CODE)
def test_state_that_evaluates_a_formula_is_found(case: str) -> None:
    assert rules(scanned(CODE[case])) - {"pickle-special-state"} == {"pickle-code-state"}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("optuna.storages._rdb.storage", "RDBStorage"), ("optuna.storages.journal._redis", "JournalRedisBackend"),
        ("xgboost.core", "DMatrix"), ("lightgbm.basic", "Dataset"), ("catboost.core", "Pool"),
        ("pandas", "read_pickle"), ("pandas", "eval"), ("pandas.core.frame", "DataFrame.eval"),
        ("statsmodels.base.data", "PatsyData"),
        ("statsmodels.iolib.smpickle", "load_pickle"), ("dateutil.tz.tz", "tzfile"), ("pandas.io.common", "get_handle"),
    ],
)  # fmt: skip
def test_name_that_opens_files_or_connections_is_in_no_list(module: str, name: str) -> None:
    assert scanned(made(module, name)).verdict is Verdict.FINDINGS


# what needs no switch


@pytest.mark.parametrize(
    "name",
    [
        "numpy log1p",
        "numpy exp",
        "numpy._core._multiarray_umath sqrt",
        "numpy.core.umath abs",
        "scipy.special._ufuncs boxcox1p",
        "scipy.special._special_ufuncs expit",
    ],
)
def test_function_of_numbers_is_clean_where_it_is_only_named(name: str) -> None:
    module, name = name.split()
    state = dict_of(func=named(module, name), validate=b"\x89")
    body = made("sklearn.preprocessing._function_transformer", "FunctionTransformer", state)
    assert scanned(body, frozenset()).verdict is Verdict.CLEAN
    assert scanned(named(module, name), frozenset()).verdict is Verdict.CLEAN


@pytest.mark.parametrize(
    "name", ["vectorize", "frompyfunc", "apply_along_axis", "fromfile", "fromfunction", "piecewise"]
)
def test_function_of_numpy_that_calls_or_opens_is_not_one_of_numbers(name: str) -> None:
    state = dict_of(func=named("numpy", name))
    body = made("sklearn.preprocessing._function_transformer", "FunctionTransformer", state)
    assert scanned(body, frozenset()).verdict is Verdict.FINDINGS


ZONE = call(named("builtins", "getattr"), named("zoneinfo", "ZoneInfo"), text("_unpickle"))


def test_getattr_is_clean_for_listed_attributes_alone() -> None:
    berlin = text("Europe/Berlin") + number(1)
    assert scanned(ZONE + b"(" + berlin + b"tR", frozenset()).verdict is Verdict.CLEAN
    for attribute in ("clear_cache", "__class__", "_unpickle.__globals__"):
        other = call(named("builtins", "getattr"), named("zoneinfo", "ZoneInfo"), text(attribute))
        assert "pickle-runs-code" in rules(scanned(ZONE + b"0" + other, frozenset()))
    kept = ZONE + b"0](" + named("builtins", "getattr") + b"e"
    assert scanned(kept, frozenset()).verdict is Verdict.FINDINGS


# the setting


def test_unknown_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="scan-allow"):
        parse_project('[tool.buildkit]\nscan-allow = ["xgbost"]\n', tmp_path)
    assert parse_project('[tool.buildkit]\nscan-allow = ["xgboost"]\n', tmp_path).scan_allow == ("xgboost",)


def test_libraries_are_part_of_what_verdicts_are_kept_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    found = []
    for value in ([], ["pandas"], ["pandas", "xgboost"], ["xgboost", "pandas"]):
        project = parse_project(f"[tool.buildkit]\nscan-allow = {json.dumps(value)}\n", tmp_path)
        with open_context(project, _ignore) as context:
            found.append(ModelScanner(context, ModelAllowlist()).rules)
    assert found[2] == found[3]
    assert len(set(found)) == 3


def _ignore(event: Any) -> None:
    pass
