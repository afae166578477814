"""Write a draft as files: stages, lists, inputs and settings. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from buildkit.adopt.draft import ImageDraft, ModelDraft, RootDraft, WheelsDraft

_EXCLUDE = 'exclude = ["usr/share/doc/**", "!usr/share/doc/*/copyright", "usr/share/man/**", "usr/share/locale/**"]'
_BUILD = ("pip>=25", "setuptools>=80", "wheel>=0.45")  # what sdists need that name no build system
NOXFILE = """import nox

from buildkit.sessions import register

register()
"""


def render_files(images: Sequence[ImageDraft], build_requirements: Sequence[str] = ()) -> dict[str, str]:
    """Return the text of each new file by its path.

    All images have a root, with one Python. There is a builder if something of the repository, or a compiler, is needed
    to install; ``build_requirements`` are those of the packages of the repository.
    """
    files = {"noxfile.py": NOXFILE}
    for base, some in _by_base(images).items():
        files |= _render_root(base, some)
    names = _name_model_stages(images)
    for (target, models), name in names.items():
        files[f"stages/{name}/stage.toml"] = _render_models_stage(target, models)
    if all_models := dict.fromkeys(model for image in images for model in image.models):
        files["requirements/models.toml"] = "\n".join(_render_models(all_models))
    for image in images:
        included = tuple(names[part] for part in _model_parts(image))
        files[f"stages/{image.name}/stage.toml"] = _render_image(image, included)
        files |= image.texts
        if image.wheels.lines:
            files[f"requirements/{image.name}.in"] = _render_input(image.wheels)
    if any(map(needs_builder, images)):
        files |= _render_builder(images, build_requirements)
    return files


def _by_base(images: Sequence[ImageDraft]) -> dict[str, list[ImageDraft]]:
    """Return the images by the stage that holds their root; those that come from another image are left out."""
    own = [image for image in images if image.base.partition("-")[0] == "base"]
    return {base: [image for image in own if image.base == base] for base in dict.fromkeys(i.base for i in own)}


def _model_parts(image: ImageDraft) -> list[tuple[str, tuple[ModelDraft, ...]]]:
    targets = sorted({model.target for model in image.models})
    return [(target, tuple(model for model in image.models if model.target == target)) for target in targets]


def _name_model_stages(images: Sequence[ImageDraft]) -> dict[tuple[str, tuple[ModelDraft, ...]], str]:
    parts = dict.fromkeys(part for image in images for part in _model_parts(image))
    return {part: "models" if number == 1 else f"models-{number}" for number, part in enumerate(parts, 1)}


def needs_builder(image: ImageDraft) -> bool:
    """Return whether the image needs a stage in which packages are compiled."""
    is_local = any(re.match(r"\.{0,2}/|\.$|\.\[", line) or " @ git+" in line for line in image.wheels.lines)
    return bool(image.builder_apt) or image.compilers or image.wheels.package or is_local


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


def _render_root(base: str, images: Sequence[ImageDraft]) -> dict[str, str]:
    """Return the stage of a root, and its list of packages: those of all images on it."""
    root = images[0].root
    assert root is not None  # noqa: S101 - `render_files` says so
    apt = list(dict.fromkeys(name for image in images for name in image.apt))
    users = {name: uid for image in images for name, uid in image.users.items()}
    if root.image:
        lines = ['summary = "the root: an image of a registry"', "", "[root]", f"image = {quote(root.image)}"]
        listed = {f"requirements/{base}.apt": "".join(f"{name}\n" for name in apt)} if apt else {}
        for file in listed:
            lines += ["", "[apt]", f"packages = {quote(file)}"]
        if users:
            script = " && ".join(f"useradd --uid {uid} --create-home {name}" for name, uid in users.items())
            lines += ["", "[[run]]", 'name = "users"', f"script = {quote(script)}"]
        return {f"stages/{base}/stage.toml": "\n".join(lines) + "\n", **listed}
    names = dict.fromkeys(("ca-certificates", f"python{root.python}", *apt))
    lines = ['summary = "the root: Debian, Python, and the user"', "", "[root]", f"suite = {quote(root.suite)}"]
    lines += [f'packages = "requirements/{base}.apt"', _EXCLUDE]
    for name, uid in users.items():
        lines += ["", "[[root.user]]", f"name = {quote(name)}", f"uid = {uid}"]
    return {
        f"stages/{base}/stage.toml": "\n".join(lines) + "\n",
        f"requirements/{base}.apt": "".join(f"{name}\n" for name in names),
    }


def _render_builder(images: Sequence[ImageDraft], requirements: Sequence[str]) -> dict[str, str]:
    root = images[0].root
    assert root is not None  # noqa: S101 - `render_files` says so
    wanted = [name for image in images for name in image.builder_apt]
    names = dict.fromkeys(name for name in wanted if not re.fullmatch(r"python3(?:\.\d+)?-(?:venv|pip)", name))
    if any(image.compilers for image in images):
        names["build-essential"] = None
    named = {_project_of(line) for line in requirements}
    build = [*(line for line in _BUILD if _project_of(line) not in named), *requirements]
    lines = ['summary = "compiles packages; never shipped"', 'from = "base"', ""]
    files = {"requirements/build.in": "".join(f"{line}\n" for line in build)}
    if names:
        lines += ["[apt]", 'packages = "requirements/builder.apt"', ""]
        files["requirements/builder.apt"] = "".join(f"{name}\n" for name in names)
    text = "\n".join([*lines, "[wheels]", 'locks = ["requirements/build.txt"]']) + "\n"
    return {"stages/builder/stage.toml": text, **files}


def _project_of(line: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower().replace("_", "-")


def _render_input(wheels: WheelsDraft) -> str:
    """Return the text of an input; an index that only some lines were installed from serves all, but as another one."""
    settings = wheels.settings
    if wheels.plain:
        settings = tuple(re.sub(r"^--index-url ", "--extra-index-url ", line) for line in settings)
    lines = [*settings, *(re.sub(r"^(-[rc] )(?=[^/])", r"\1../", line) for line in wheels.lines)]
    return "".join(f"{line}\n" for line in lines)


def _render_models_stage(target: str, models: Iterable[ModelDraft]) -> str:
    names = ", ".join(quote(model.name) for model in models)
    lines = ['summary = "model files"', "", "[models]", 'lock = "requirements/models.lock"', f"names = [{names}]"]
    return "\n".join([*lines, f"target = {quote(target)}"]) + "\n"


def _render_models(models: Iterable[ModelDraft]) -> Iterator[str]:
    for model in models:
        yield "[[model]]"
        yield f"name = {quote(model.name)}"
        yield f"source = {quote(model.source)}"
        if model.version:
            yield f"version = {quote(model.version)}"
        if model.files:
            yield f"files = [{', '.join(map(quote, model.files))}]"
        yield 'license = "NOASSERTION"  # write its licence'
        yield ""


def _render_image(image: ImageDraft, models: tuple[str, ...]) -> str:
    summary = "the application" if image.name == "app" else f"the service {image.name}"
    lines = [f"summary = {quote(summary)}", f"from = {quote(image.base)}"]
    if models:
        lines.append(f"include = [{', '.join(map(quote, models))}]")
    lines += ["ships = true", ""] if image.ships else [""]
    lines += _render_wheels(image)
    for copy in image.copies:
        source = "/" if copy.source == "." else f"/{copy.source}"
        lines += ["[[copy]]", f"source = {quote(source)}", f"target = {quote(copy.target)}", ""]
    if image.args:
        lines += ["[args]", *(f"{key} = {quote(value)}" for key, value in image.args.items()), ""]
    lines += _render_config(image)
    if image.running:
        running = (
            f"{key} = {value if isinstance(value, int) else quote(value)}" for key, value in image.running.items()
        )
        lines += ["", "[running]", *running]
    return "\n".join(lines).rstrip("\n") + "\n"


def _render_wheels(image: ImageDraft) -> list[str]:
    wheels = image.wheels
    locks = [*wheels.locks, *([f"requirements/{image.name}.txt"] if wheels.lines else [])]
    if not locks:
        return []
    lines = ["[wheels]", f"locks = [{', '.join(map(quote, locks))}]"]
    if wheels.member:
        lines.append(f"package = {quote(wheels.member)}")
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
    tables = {"env": image.env, "labels": image.labels}
    lines += [f"{key} = {inline_table(value)}" for key, value in tables.items() if value]
    health = []
    if image.healthcheck:
        health = ["", "[config.healthcheck]", f"test = [{', '.join(map(quote, image.healthcheck))}]"]
        health += [f"{key} = {value}" for key, value in image.health_times.items()]
    return ["[config]", *lines, *health] if lines or health else []


def inline_table(values: Mapping[str, str]) -> str:
    """Return a TOML table on one line."""
    return "{ " + ", ".join(f"{quote(key)} = {quote(value)}" for key, value in values.items()) + " }"
