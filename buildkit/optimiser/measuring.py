"""Measures models side by side: one after the other in every round, so that all meet the same noise of the machine."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from buildkit.optimiser.onnx_runtime import RunningModel
from buildkit.optimiser.scripts import SCRIPTS, RefusedRequest, call, load_function

_LOADS = 5
_LEAST_ROUNDS = 5
_MOST_ROUNDS = 200
_FEEDS = 8  # of those that the metric fed


def judge_model(model: RunningModel, metric: str, data: Path, scripts: Path = SCRIPTS) -> float:
    """Return the metric of a model over ``data``; raises RefusedRequest for one that fails, or is no number."""
    function = load_function(metric, scripts)
    value = call(metric, scripts, lambda: function(model, data))
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise RefusedRequest("metric", f"{metric} returned {type(value).__name__}, and no number") from None
    if not math.isfinite(found):
        raise RefusedRequest("metric", f"{metric} returned {found}")
    return found


def time_models(models: Mapping[str, RunningModel], seconds: float) -> dict[str, dict[str, float]]:
    """Return ``latency`` and ``p50`` of models that ran, in seconds a call, and ``load``, in seconds.

    ``latency`` is the mean over inputs of the shortest time of each: what the machine is otherwise busy with only ever
    makes a call longer. The order turns round in every round.
    """
    loads = time_in_turn({name: model.time_load for name, model in models.items()}, _LOADS)
    found = {name: {"load": min(times)} for name, times in loads.items()}
    ran = {name: model for name, model in models.items() if model.was_run}
    feeds = next((model.kept[:_FEEDS] for model in ran.values()), [])
    rounds = _rounds(ran, feeds, seconds) if len(ran) == len(models) and feeds else []
    for name in ran if rounds else ():
        of_feeds = list(zip(*(one[name] for one in rounds), strict=True))
        found[name]["latency"] = statistics.fmean(map(min, of_feeds))
        found[name]["p50"] = statistics.fmean(map(statistics.median, of_feeds))
    return found


def time_in_turn(actions: Mapping[str, Any], times: int) -> dict[str, list[float]]:
    """Return what each action returns, called in turn."""
    found: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(times):
        for name in _order(list(actions), number):
            found[name].append(actions[name]())
    return found


def _rounds(models: Mapping[str, RunningModel], feeds: Sequence[Any], seconds: float) -> list[dict[str, list[float]]]:
    rounds: list[dict[str, list[float]]] = []
    end = time.perf_counter() + seconds
    while len(rounds) < _LEAST_ROUNDS or (time.perf_counter() < end and len(rounds) < _MOST_ROUNDS):
        timed: dict[str, list[float]] = {name: [] for name in models}
        for feed in feeds:
            for name in _order(list(models), len(rounds)):
                session, inputs = models[name].session, dict(feed)
                began = time.perf_counter()
                session.run(None, inputs)
                timed[name].append(time.perf_counter() - began)
        rounds.append(timed)
    return rounds


def _order(names: list[str], number: int) -> list[str]:
    return names[::-1] if number % 2 else names
