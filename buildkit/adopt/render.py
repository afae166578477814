"""Write a draft as files: stages, lists, inputs and settings. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from buildkit.adopt.draft import ImageDraft, RootDraft

_EXCLUDE = 'exclude = ["usr/share/doc/**", "!usr/share/doc/*/copyright", "usr/share/man/**", "usr/share/locale/**"]'
NOXFILE = """import nox

from buildkit.sessions import register

register()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDraft:
    """A model: the folder of the repository, its files (empty: all), and the folder above it in the image."""

    name: str
    source: str
    files: tuple[str, ...]
    target: str


def render_files(image: ImageDraft, models: Iterable[ModelDraft]) -> dict[str, str]:
    """Return the text of each new file by its path.

    ``image`` has a root. There is a builder if something of the repository, or a compiler, is needed to install.
    """
    assert image.root is not None  # noqa: S101 - the caller has refused a file without one
    files = {
        "noxfile.py": NOXFILE,
        "stages/base/stage.toml": _render_base(image, image.root),
        **_render_lists(image, image.root),
    }
    by_target: dict[str, list[ModelDraft]] = {}
    for model in models:
        by_target.setdefault(model.target, []).append(model)
    stages = {}
    for number, (target, some) in enumerate(sorted(by_target.items()), 1):
        stages["models" if number == 1 else f"models-{number}"] = (target, some)
    for name, (target, some) in stages.items():
        files[f"stages/{name}/stage.toml"] = _render_models_stage(target, some)
    if by_target:
        files["requirements/models.toml"] = "\n".join(_render_models(m for some in by_target.values() for m in some))
    files[f"stages/{image.name}/stage.toml"] = _render_image(image, tuple(stages))
    if needs_builder(image):
        files["stages/builder/stage.toml"] = _render_builder(image)
        files["requirements/build.in"] = "pip>=25\nsetuptools>=80\nwheel>=0.45\nhatchling>=1.27\n"
    return files


def needs_builder(image: ImageDraft) -> bool:
    """Return whether the image needs a stage in which packages are compiled."""
    is_local = any(re.match(r"\.{0,2}/|\.$|\.\[", line) for line in image.wheels.lines)
    return bool(image.builder_apt) or image.wheels.package or is_local


def render_settings(root: RootDraft) -> str:
    """Return the table ``[tool.buildkit]``, without what is the default."""
    lines = ["[tool.buildkit]"]
    lines += [
        f"python = {quote(root.python)}",
        f"glibc = {quote(root.glibc)}",
        f"interpreter = {quote(root.interpreter)}",
    ]
    return "\n".join(lines) + "\n"


def quote(text: str) -> str:
    """Return a TOML string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    for letter, name in (("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        escaped = escaped.replace(letter, name)
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'


def _render_base(image: ImageDraft, root: RootDraft) -> str:
    lines = ['summary = "the root: Debian, Python, and the user"', "", "[root]"]
    if root.image:
        lines[0] = 'summary = "the root: an image of a registry"'
        lines.append(f"image = {quote(root.image)}")
        if image.apt or image.users:
            lines += ["", "[[run]]", 'name = "packages"', f"script = {quote(_root_script(image))}", "network = true"]
        return "\n".join(lines) + "\n"
    lines += [f"suite = {quote(root.suite)}", 'packages = "requirements/base.apt"', _EXCLUDE]
    for name, uid in image.users.items():
        lines += ["", "[[root.user]]", f"name = {quote(name)}", f"uid = {uid}"]
    return "\n".join(lines) + "\n"


def _root_script(image: ImageDraft) -> str:
    parts = []
    if image.apt:
        parts.append(f"apt-get update && apt-get install -y --no-install-recommends {' '.join(image.apt)}")
        parts.append("rm -rf /var/lib/apt/lists/*")
    parts += [f"useradd --uid {uid} --create-home {name}" for name, uid in image.users.items()]
    return " && ".join(parts)


def _render_lists(image: ImageDraft, root: RootDraft) -> dict[str, str]:
    files = {}
    if not root.image:
        names = ["ca-certificates", f"python{root.python}", *image.apt]
        files["requirements/base.apt"] = "".join(f"{name}\n" for name in dict.fromkeys(names))
    if needs_builder(image) and not root.image:
        names = [name for name in image.builder_apt if not re.fullmatch(r"python3(?:\.\d+)?-(?:venv|pip)", name)]
        files["requirements/builder.apt"] = "".join(f"{name}\n" for name in dict.fromkeys((*names, "build-essential")))
    if image.wheels.lines:
        lines = (re.sub(r"^(-[rc] )(?=[^/])", r"\1../", line) for line in image.wheels.lines)
        files[f"requirements/{image.name}.in"] = "".join(f"{line}\n" for line in lines)
    return files


def _render_builder(image: ImageDraft) -> str:
    assert image.root is not None  # noqa: S101 - `render_files` says so
    lines = ['summary = "compiles packages; never shipped"', 'from = "base"', ""]
    if not image.root.image:
        lines += ["[apt]", 'packages = "requirements/builder.apt"', ""]
    elif image.builder_apt:
        tools = " ".join(image.builder_apt)
        script = f"apt-get update && apt-get install -y --no-install-recommends {tools}"
        lines += ["[[run]]", 'name = "compilers"', f"script = {quote(script)}", "network = true", ""]
    return "\n".join([*lines, "[wheels]", 'locks = ["requirements/build.txt"]']) + "\n"


def _render_models_stage(target: str, models: Iterable[ModelDraft]) -> str:
    names = ", ".join(quote(model.name) for model in models)
    lines = ['summary = "model files"', "", "[models]", 'lock = "requirements/models.lock"', f"names = [{names}]"]
    return "\n".join([*lines, f"target = {quote(target)}"]) + "\n"


def _render_models(models: Iterable[ModelDraft]) -> Iterator[str]:
    for model in models:
        yield "[[model]]"
        yield f"name = {quote(model.name)}"
        yield f"source = {quote(f'path:{model.source}')}"
        if model.files:
            yield f"files = [{', '.join(map(quote, model.files))}]"
        yield 'license = "NOASSERTION"  # write its licence'
        yield ""


def _render_image(image: ImageDraft, models: tuple[str, ...]) -> str:
    lines = ['summary = "the application"', 'from = "base"']
    if models:
        lines.append(f"include = [{', '.join(map(quote, models))}]")
    lines += ["ships = true", ""]
    lines += _render_wheels(image)
    for copy in image.copies:
        source = "/" if copy.source == "." else f"/{copy.source}"
        lines += ["[[copy]]", f"source = {quote(source)}", f"target = {quote(copy.target)}", ""]
    lines += _render_config(image)
    return "\n".join(lines).rstrip("\n") + "\n"


def _render_wheels(image: ImageDraft) -> list[str]:
    wheels = image.wheels
    locks = [*wheels.locks, *([f"requirements/{image.name}.txt"] if wheels.lines else [])]
    if not locks:
        return []
    lines = ["[wheels]", f"locks = [{', '.join(map(quote, locks))}]"]
    if wheels.extras:
        lines.append(f"extras = [{', '.join(map(quote, wheels.extras))}]")
    if wheels.groups:
        lines.append(f"groups = [{', '.join(map(quote, wheels.groups))}]")
    if wheels.locks and not wheels.package:
        lines.append("project = false")
    return [*lines, ""]


def _render_config(image: ImageDraft) -> list[str]:
    texts = {"user": image.user, "workdir": image.workdir, "stop-signal": image.stop_signal}
    lists = {
        "entrypoint": image.entrypoint,
        "cmd": image.cmd,
        "ports": tuple(image.ports),
        "volumes": tuple(image.volumes),
    }
    lines = [f"{key} = {quote(value)}" for key, value in texts.items() if value]
    lines += [f"{key} = [{', '.join(map(quote, value))}]" for key, value in lists.items() if value]
    lines += [f"{key} = {_inline(value)}" for key, value in (("env", image.env), ("labels", image.labels)) if value]
    health = []
    if image.healthcheck:
        health = ["", "[config.healthcheck]", f"test = [{', '.join(map(quote, image.healthcheck))}]"]
        health += [f"{key} = {value}" for key, value in image.health_times.items()]
    return ["[config]", *lines, *health] if lines or health else []


def _inline(values: Mapping[str, str]) -> str:
    return "{ " + ", ".join(f"{quote(key)} = {quote(value)}" for key, value in values.items()) + " }"


def find_model_drafts(
    image: ImageDraft, models: Mapping[str, tuple[str, ...]], others: Mapping[str, bool]
) -> tuple[ModelDraft, ...]:
    """Return the models among the copied files; ``others`` tells of a folder whether it has files that are no models.

    ``models`` are names of model files by their folder. A model keeps its path in the image.
    """
    drafts = []
    for folder, names in models.items():
        place = next((place for copy in image.copies if (place := _place_of(folder, copy.source, copy.target))), "")
        if not place or place == "/":
            continue
        name = posixpath.basename(place)
        files = names if others.get(folder, True) else ()
        drafts.append(ModelDraft(name=name, source=folder, files=files, target=posixpath.dirname(place)))
    return tuple(drafts)


def _place_of(folder: str, source: str, target: str) -> str:
    """Return where a folder is in the image if ``source`` is copied to ``target``; empty if it is not."""
    if source in (".", folder):
        rest = "" if source == folder else folder
    elif folder.startswith(f"{source}/"):
        rest = folder[len(source) + 1 :]
    else:
        return ""
    return posixpath.normpath(posixpath.join(target, rest))
