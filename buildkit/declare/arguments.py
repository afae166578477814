"""Build arguments: `[args]` of stage files, with the values of the command line and of the environment.

A stage sees its own arguments and those of the stages that it comes from. ``${NAME}`` is replaced in labels, in the
environment, in commands and in the arguments of steps. The script of a step that names an argument gets it as an
environment variable, so that no value is read as shell. Whatever uses a value has it in its key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from buildkit.declare.schema import suggest_word
from buildkit.declare.stage import Config, Run, Stage
from buildkit.errors import DefinitionError, Problem

READY = ("GIT_COMMIT", "GIT_TIME")
"""Values of the checkout, for labels: the commit, and its time by RFC 3339."""
VARIABLE = "BUILDKIT_ARG_"  # and the name: an environment variable that gives an argument

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SHELL = ("/bin/sh", "-eu", "-c")
_SECRET = re.compile(r"(^|_)(TOKEN|PASSWORD|PASSWD|SECRET|APIKEY|API_KEY|PRIVATE_KEY)$", re.IGNORECASE)

FindReady = Callable[[], Mapping[str, str]]
Pairs = tuple[tuple[str, str], ...]


def apply_arguments(
    stages: Mapping[str, Stage], given: Mapping[str, str], env: Mapping[str, str], find_ready: FindReady | None
) -> dict[str, Stage]:
    """Return the stages with every argument replaced.

    ``given`` are the values of the command line, ``env`` is the environment, and ``find_ready`` returns the values of
    `READY`, which are left as they are if it is None. Raises DefinitionError for a name that no stage declares, and
    with every problem of the stages.
    """
    _check_given(stages, given)
    outside = {name.removeprefix(VARIABLE): value for name, value in env.items() if name.startswith(VARIABLE)}
    problems = [problem for stage in stages.values() for problem in _find_problems(stage, stages)]
    if problems:
        raise DefinitionError.of(problems)
    needs_ready = find_ready and any(_uses_ready(stage) for stage in stages.values())
    ready = find_ready() if find_ready and needs_ready else {}
    return {
        name: _replaced(stage, _visible(stage, stages) | _known(stage, stages, {**outside, **given}), ready)
        for name, stage in stages.items()
    }


def _known(stage: Stage, stages: Mapping[str, Stage], values: Mapping[str, str]) -> dict[str, str]:
    return {name: values[name] for name in _visible(stage, stages) if name in values}


def _check_given(stages: Mapping[str, Stage], given: Mapping[str, str]) -> None:
    declared = sorted({name for stage in stages.values() for name, _ in stage.args})
    for name in given:
        if name not in declared:
            hint = suggest_word(name, declared) or f"arguments are {', '.join(declared) or 'declared by [args]'}"
            raise DefinitionError(f"--arg {name}: no stage has this argument", hint=hint)


def _visible(stage: Stage, stages: Mapping[str, Stage]) -> dict[str, str]:
    """Return the defaults of a stage's arguments, its own over those of the stages that it comes from."""
    below = _visible(stages[stage.base], stages) if stage.base in stages else {}
    return below | dict(stage.args)


def _find_problems(stage: Stage, stages: Mapping[str, Stage]) -> Iterator[Problem]:
    for name, _ in stage.args:
        if name in READY:
            yield Problem(file=stage.file, key=f"args.{name}", what="is the name of a value that is always there")
        if _SECRET.search(name):
            what = "a secret is no argument: the image shows its value"
            hint = "name it in `secrets` of the step, and give it by --secret: docs/supply-chain.md"
            yield Problem(file=stage.file, key=f"args.{name}", what=what, hint=hint)
    visible = [*_visible(stage, stages)]
    for key, text in (*_environment(stage), *_step_environments(stage)):
        if ready := next((name for name in _names(text) if name in READY), ""):
            what = f"`{ready}` changes with every commit, so only labels may use it"
            yield Problem(file=stage.file, key=key, what=what)
    texts = (*_labels(stage), *_environment(stage), *_step_environments(stage))
    for key, text in texts if visible else ():
        for name in _names(text):
            if name not in (*visible, *READY) and (hint := suggest_word(name, visible)):
                yield Problem(file=stage.file, key=key, what=f"there is no argument `{name}`", hint=hint)


def _labels(stage: Stage) -> list[tuple[str, str]]:
    return [(f"config.labels.{name}", value) for name, value in stage.config.labels]


def _environment(stage: Stage) -> list[tuple[str, str]]:
    return [(f"config.env.{name}", value) for name, value in stage.config.env]


def _step_environments(stage: Stage) -> list[tuple[str, str]]:
    steps = enumerate(stage.run)
    return [(f"run[{number}].env.{name}", value) for number, run in steps for name, value in run.env]


def _uses_ready(stage: Stage) -> bool:
    return any(name in READY for _, text in _labels(stage) for name in _names(text))


def _names(text: str) -> list[str]:
    return _REFERENCE.findall(text)


def _replaced(stage: Stage, values: Mapping[str, str], ready: Mapping[str, str]) -> Stage:
    if not values and not ready:
        return stage
    return replace(
        stage,
        config=_replaced_config(stage.config, values, {**values, **ready}),
        run=tuple(_replaced_run(run, values) for run in stage.run),
        used_args=tuple((name, values[name]) for name in sorted(values) if _uses(stage, name)),
    )


def _uses(stage: Stage, name: str) -> bool:
    config = stage.config
    pairs = (*config.env, *config.labels, *(pair for run in stage.run for pair in run.env))
    words = (*config.entrypoint, *config.cmd, *(value for _, value in pairs))
    words += tuple(word for run in stage.run if run.command[:3] != _SHELL for word in run.command)
    scripts = (run.command[3] for run in stage.run if run.command[:3] == _SHELL)
    return any(name in _names(word) for word in words) or any(_names_variable(script, name) for script in scripts)


def _names_variable(script: str, name: str) -> bool:
    return re.search(rf"\$(?:{name}\b|\{{{name}\b)", script) is not None


def _replaced_config(config: Config, values: Mapping[str, str], of_labels: Mapping[str, str]) -> Config:
    return replace(
        config,
        entrypoint=_words(config.entrypoint, values),
        cmd=_words(config.cmd, values),
        env=_pairs(config.env, values),
        labels=_pairs(config.labels, of_labels),
    )


def _replaced_run(run: Run, values: Mapping[str, str]) -> Run:
    env = _pairs(run.env, values)
    if run.command[:3] != _SHELL:
        return replace(run, command=_words(run.command, values), env=env)
    script, own = run.command[3], dict(env)
    used = {name: value for name, value in values.items() if _names_variable(script, name)}
    return replace(run, env=tuple(sorted({**used, **own}.items())) if used else env)


def _words(words: Iterable[str], values: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(_text(word, values) for word in words)


def _pairs(pairs: Pairs, values: Mapping[str, str]) -> Pairs:
    return tuple((name, _text(value, values)) for name, value in pairs)


def _text(text: str, values: Mapping[str, str]) -> str:
    return _REFERENCE.sub(lambda found: values.get(found[1], found[0]), text)
