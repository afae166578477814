"""Harmless files by libraries for tables, statistics, boosting and language, and by other picklers."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def library(name: str) -> Any:
    return import_module(name)


def dump(out: Path, name: str, value: object, protocol: int | None = None) -> None:
    (out / f"{name}.pkl").write_bytes(pickle.dumps(value, protocol))


def numbers() -> tuple[Any, Any]:
    np = library("numpy")
    x = np.random.default_rng(0).random((80, 3))
    return x, (x[:, 0] + 0.2 * x[:, 1] > 0.6).astype(int)


def make_ufuncs(out: Path) -> None:
    """Function transformers: NumPy writes a ufunc as its name alone, and SciPy's likewise."""
    np, special = library("numpy"), library("scipy.special")
    preprocessing, pipeline = library("sklearn.preprocessing"), library("sklearn.pipeline")
    linear, compose = library("sklearn.linear_model"), library("sklearn.compose")
    x, y = numbers()
    for name in ("log1p", "expm1", "sqrt", "exp", "abs", "square", "sin", "maximum", "isnan", "reciprocal"):
        dump(out, f"ufunc-{name}", preprocessing.FunctionTransformer(getattr(np, name)))
    for name in ("expit", "logit", "gamma", "erf", "boxcox1p", "xlogy"):
        dump(out, f"ufunc-special-{name}", getattr(special, name))
    both = preprocessing.FunctionTransformer(np.log1p, np.expm1, check_inverse=False)
    dump(out, "ufunc-inverse", pipeline.make_pipeline(both, linear.LogisticRegression()).fit(x, y))
    target = compose.TransformedTargetRegressor(linear.Ridge(), func=np.log1p, inverse_func=np.expm1)
    dump(out, "ufunc-target", target.fit(x, y + 1.0))
    library("joblib").dump(both, out / "ufunc.joblib")


def make_xgboost(out: Path) -> None:
    xgboost = library("xgboost")
    x, y = numbers()
    made = {
        "classifier": xgboost.XGBClassifier(n_estimators=3).fit(x, y),
        "regressor": xgboost.XGBRegressor(n_estimators=3).fit(x, y),
        "ranker": xgboost.XGBRanker(n_estimators=3).fit(x, y, qid=[n // 10 for n in range(80)]),
        "forest": xgboost.XGBRFClassifier(n_estimators=3).fit(x, y),
        "forest-regressor": xgboost.XGBRFRegressor(n_estimators=3).fit(x, y),
        "stopped": xgboost.XGBClassifier(n_estimators=3, early_stopping_rounds=1).fit(
            x, y, eval_set=[(x, y)], verbose=False
        ),
    }
    for name, model in made.items():
        dump(out, f"xgboost-{name}", model)
    dump(out, "xgboost-booster", made["classifier"].get_booster())
    library("joblib").dump(made["classifier"], out / "xgboost.joblib")
    pipeline, scaler = library("sklearn.pipeline"), library("sklearn.preprocessing").StandardScaler()
    dump(out, "xgboost-pipeline", pipeline.make_pipeline(scaler, xgboost.XGBClassifier(n_estimators=2)).fit(x, y))
    for end in ("json", "ubj"):
        made["regressor"].save_model(out / f"xgboost.{end}")


def make_lightgbm(out: Path) -> None:
    lightgbm = library("lightgbm")
    x, y = numbers()
    given = {"n_estimators": 3, "min_child_samples": 2, "verbose": -1}
    made = {
        "classifier": lightgbm.LGBMClassifier(**given).fit(x, y),
        "regressor": lightgbm.LGBMRegressor(**given).fit(x, y),
        "ranker": lightgbm.LGBMRanker(**given).fit(x, y, group=[40, 40]),
        "evaluated": lightgbm.LGBMClassifier(**given).fit(x, y, eval_set=[(x, y)]),
    }
    for name, model in made.items():
        dump(out, f"lightgbm-{name}", model)
    dump(out, "lightgbm-booster", made["classifier"].booster_)
    library("joblib").dump(made["classifier"], out / "lightgbm.joblib")
    made["classifier"].booster_.save_model(out / "lightgbm.txt")


def make_catboost(out: Path) -> None:
    catboost = library("catboost")
    x, y = numbers()
    given = {"iterations": 3, "verbose": False, "allow_writing_files": False}
    made = {
        "classifier": catboost.CatBoostClassifier(**given).fit(x, y),
        "regressor": catboost.CatBoostRegressor(**given).fit(x, y),
        "ranker": catboost.CatBoostRanker(**given).fit(x, y, group_id=[n // 10 for n in range(80)]),
        "plain": catboost.CatBoost(given).fit(x, y),
        "unfitted": catboost.CatBoostClassifier(**given),
    }
    for name, model in made.items():
        dump(out, f"catboost-{name}", model)
    library("joblib").dump(made["classifier"], out / "catboost.joblib")
    for form in ("cbm", "json", "onnx"):
        made["classifier"].save_model(out / f"catboost.{form}", format=form)


def make_pandas(out: Path) -> None:
    pd, np = library("pandas"), library("numpy")
    times = pd.date_range("2026-01-01", periods=3, tz="UTC")
    zoned = pd.date_range("2026-01-01", periods=3, tz="Europe/Berlin")
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"], "c": [1.5, np.nan, 2.0], "d": [True, False, True]})
    values = {
        "frame": frame,
        "times": pd.DataFrame({"t": times, "z": zoned, "d": times - times[0]}, index=times),
        "series": pd.Series([1.0, 2.0], index=["a", "b"], name="s"),
        "categories": pd.DataFrame({"k": pd.Categorical(["a", "b", "a"], ordered=True)}),
        "nullable": pd.DataFrame({"i": pd.array([1, None], "Int64"), "b": pd.array([True, None], "boolean")}),
        "floats": pd.Series(pd.array([1.5, None], "Float64")),
        "strings": pd.Series(["a", None], dtype="string"),
        "multi": frame.set_index(["a", "b"]),
        "columns": pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])),
        "periods": pd.Series(pd.period_range("2026-01", periods=3, freq="M")),
        "intervals": pd.cut(pd.Series([1, 5, 9]), 3),
        "interval-index": pd.interval_range(0, 3),
        "sparse": pd.DataFrame({"s": pd.arrays.SparseArray([0, 0, 1])}),
        "scalars": [pd.Timestamp("2026-01-01", tz="UTC"), pd.Timedelta(days=1), pd.NaT, pd.NA, pd.Period("2026-01")],
        "offsets": [pd.offsets.Day(1), pd.offsets.MonthEnd(), pd.offsets.BDay(2), pd.DateOffset(months=1)],
        "ranges": [pd.RangeIndex(5), pd.Index([1.5]), pd.DatetimeIndex(["2026-01-01"]), pd.TimedeltaIndex(["1D"])],
        "grouped": frame.groupby("b").sum(numeric_only=True),
        "objects": pd.Series([{"a": 1}, None, (1, 2)]),
        "empty": pd.DataFrame(),
        "flags": frame.set_flags(allows_duplicate_labels=False),
    }
    for name, value in values.items():
        dump(out, f"pandas-{name}", value)
    frame.to_pickle(out / "pandas-to.pkl")
    frame.to_pickle(out / "pandas-to.pkl.gz")
    library("joblib").dump(frame, out / "pandas.joblib")
    frame.to_csv(out / "pandas.csv")
    pipeline, compose = library("sklearn.pipeline"), library("sklearn.compose")
    encoder, linear = library("sklearn.preprocessing").OneHotEncoder(), library("sklearn.linear_model")
    columns = compose.ColumnTransformer([("b", encoder, ["b"])], remainder="passthrough")
    model = pipeline.make_pipeline(columns, linear.LogisticRegression())
    dump(out, "pandas-pipeline", model.fit(frame[["a", "b"]], [0, 1, 0]))


def make_statsmodels(out: Path) -> None:
    api, pd = library("statsmodels.api"), library("pandas")
    formula, tsa = library("statsmodels.formula.api"), library("statsmodels.tsa.api")
    x, y = numbers()
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(y=y)
    series = pd.Series(x[:, 0], index=pd.date_range("2026-01-01", periods=80))
    made = {
        "ols": api.OLS(x[:, 0], x[:, 1:]).fit(),
        "wls": api.WLS(x[:, 0], x[:, 1:], weights=x[:, 2]).fit(),
        "logit": api.Logit(y, x).fit(disp=0),
        "glm": api.GLM(y, x, family=api.families.Binomial()).fit(),
        "poisson": api.GLM(y, x, family=api.families.Poisson()).fit(),
        "robust": api.RLM(x[:, 0], x[:, 1:]).fit(),
        "formula": formula.ols("y ~ a + b", frame).fit(),
        "formula-glm": formula.glm("y ~ a + b", frame, family=api.families.Binomial()).fit(),
        "arima": tsa.ARIMA(series, order=(1, 0, 0)).fit(),
        "smoothing": tsa.ExponentialSmoothing(series).fit(),
    }
    for name, model in made.items():
        dump(out, f"statsmodels-{name}", model)
        model.save(str(out / f"statsmodels-{name}-saved.pickle"))


def make_optuna(out: Path) -> None:
    optuna = library("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: Any) -> float:
        kind = trial.suggest_categorical("kind", ["a", "b"])
        return trial.suggest_float("x", -1, 1) ** 2 + trial.suggest_int("n", 1, 5) + (kind == "a")

    samplers = optuna.samplers
    for sampler in (
        samplers.TPESampler(seed=1), samplers.RandomSampler(seed=1), samplers.NSGAIISampler(seed=1),
        samplers.GridSampler({"x": [0.0, 1.0], "n": [1, 2], "kind": ["a", "b"]}, seed=1),
    ):  # fmt: skip
        study = optuna.create_study(sampler=sampler, pruner=optuna.pruners.MedianPruner())
        study.optimize(objective, n_trials=4)
        dump(out, f"optuna-{type(sampler).__name__}", study)
        dump(out, f"optuna-sampler-{type(sampler).__name__}", sampler)
    dump(out, "optuna-trials", study.trials)
    dump(out, "optuna-best", study.best_trial)
    library("joblib").dump(study, out / "optuna.joblib")
    for name in ("HyperbandPruner", "SuccessiveHalvingPruner", "NopPruner", "PercentilePruner"):
        made = getattr(optuna.pruners, name)
        dump(out, f"optuna-{name}", made(25.0) if name == "PercentilePruner" else made())


def make_others(out: Path) -> None:
    """Formats without pickles, and picklers of plain values."""
    x, _ = numbers()
    if library("importlib.util").find_spec("pyarrow"):
        pa, feather = library("pyarrow"), library("pyarrow.feather")
        table = pa.table({"a": [1, 2], "b": ["x", "y"]})
        library("pyarrow.parquet").write_table(table, out / "arrow.parquet")
        feather.write_feather(table, str(out / "arrow.feather"))
        with pa.OSFile(str(out / "arrow.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    for name in ("cloudpickle", "dill"):
        if library("importlib.util").find_spec(name):
            plain = {"w": x, "n": [1, "a", None], "d": {"k": (1.5, True)}}
            (out / f"{name}.pkl").write_bytes(library(name).dumps(plain))
    if library("importlib.util").find_spec("msgpack"):
        (out / "msgpack.msgpack").write_bytes(library("msgpack").packb({"weights": [1.5] * 20, "name": "m"}))
    if library("importlib.util").find_spec("skops"):
        model = library("sklearn.linear_model").Ridge().fit(x, x[:, 0])
        library("skops.io").dump(model, out / "skops.skops")
    for name, value in (("config", {"model_type": "bert"}), ("metrics", [{"loss": 0.5}])):
        (out / f"other-{name}.json").write_text(json.dumps(value))


LIBRARIES: dict[str, tuple[tuple[str, ...], Callable[[Path], None]]] = {
    "ufuncs": (("scipy", "sklearn", "joblib"), make_ufuncs),
    "pandas": (("pandas", "sklearn", "joblib"), make_pandas),
    "xgboost": (("xgboost", "sklearn", "joblib"), make_xgboost),
    "lightgbm": (("lightgbm", "joblib"), make_lightgbm),
    "catboost": (("catboost", "joblib"), make_catboost),
    "statsmodels": (("statsmodels", "pandas"), make_statsmodels),
    "optuna": (("optuna", "joblib"), make_optuna),
    "others": (("numpy", "sklearn"), make_others),
}
