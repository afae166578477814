"""What a RUN downloads: repositories of the model hub, and files of the web. Pure."""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from buildkit.adopt.draft import ModelDraft
from buildkit.adopt.installs import parse_options

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_VALUED = (
    "--revision", "--local-dir", "--include", "--exclude", "--repo-type", "--cache-dir", "--token", "--max-workers",
    "--local-dir-use-symlinks",
)  # fmt: skip
_SEVERAL = ("--include", "--exclude")
_LOADERS = (
    "snapshot_download",
    "hf_hub_download",
    "from_pretrained",
    "SentenceTransformer",
    "CrossEncoder",
    "pipeline",
)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubDownload:
    """Files of a repository of the model hub; ``folder`` is where they go, empty for the hub's own cache."""

    repository: str
    revision: str = ""
    files: tuple[str, ...] = ()
    folder: str = ""


def read_hub_command(command: Sequence[str]) -> HubDownload | None:
    """Return what ``hf download`` or ``huggingface-cli download`` fetches; None if it is something else."""
    if tuple(command[:2]) not in (("hf", "download"), ("huggingface-cli", "download")):
        return None
    words = list(_repeat_options(command[2:]))
    options = parse_options(words, _VALUED)
    if not options.words or "--exclude" in options.values or options.all("--repo-type") not in ((), ("model",)):
        return None
    repository, *files = options.words
    return HubDownload(
        repository=repository,
        revision=next(iter(options.all("--revision")), ""),
        files=(*files, *options.all("--include")),
        folder=next(iter(options.all("--local-dir")), ""),
    )


def _repeat_options(words: Sequence[str]) -> Iterator[str]:
    """Yield ``--include a --include b`` for ``--include a b``."""
    option = ""
    for number, word in enumerate(words):
        if word.startswith("-"):
            option = word if word in _SEVERAL else ""
        elif option and words[number - 1] != option:
            yield option
        yield word


def read_hub_script(text: str) -> tuple[HubDownload, ...]:
    """Return what a Python script fetches of the model hub, as far as it is written out."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return ()
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return tuple(found for call in calls if (found := _read_call(call)) is not None)


def _read_call(call: ast.Call) -> HubDownload | None:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name not in _LOADERS:
        return None
    named = {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}
    given = [word.value if isinstance(word, ast.Constant) else None for word in call.args]
    at = 1 if name == "pipeline" else 0
    first = given[at] if len(given) > at else named.get("repo_id", named.get("model"))
    if not isinstance(first, str) or not _REPOSITORY.fullmatch(first):
        return None
    file = named.get("filename", given[1] if len(given) > 1 and name == "hf_hub_download" else None)
    return HubDownload(
        repository=first,
        revision=str(named.get("revision") or ""),
        files=(file,) if isinstance(file, str) else (),
        folder=str(named.get("local_dir") or ""),
    )


def make_hub_model(found: HubDownload, folder: str) -> ModelDraft | None:
    """Return the model in ``folder``, an absolute path of the image; None if there is no such model."""
    name = posixpath.basename(folder)
    if not _REPOSITORY.fullmatch(found.repository) or not _NAME.fullmatch(name):
        return None
    return ModelDraft(
        name=name,
        source=f"hf:{found.repository}",
        target=posixpath.dirname(folder),
        files=found.files,
        version=found.revision,
    )


def read_web_command(command: Sequence[str]) -> tuple[str, str] | None:
    """Return URL and file of ``curl -o FILE URL`` and ``wget -O FILE URL``; None if it is something else."""
    if not command or command[0] not in ("curl", "wget"):
        return None
    output = ("-o", "--output") if command[0] == "curl" else ("-O", "--output-document")
    options = parse_options(
        list(_split_letters(command[1:], output[0])),
        (
            *output,
            "--retry",
            "--retry-delay",
            "--connect-timeout",
            "--max-time",
            "-H",
            "--header",
            "--tries",
            "-t",
            "-T",
        ),
    )
    urls = [word for word in options.words if word.startswith("https://")]
    files = options.all(*output)
    return (urls[0], files[0]) if len(urls) == len(files) == len(options.words) == 1 else None


def _split_letters(words: Sequence[str], output: str) -> Iterator[str]:
    """Yield ``-fsSL -o`` for ``-fsSLo``."""
    for word in words:
        if re.fullmatch(r"-[A-Za-z]{2,}", word) and word.endswith(output[1]):
            yield word[:-1]
            yield output
        else:
            yield word


def make_web_model(url: str, path: str) -> ModelDraft | None:
    """Return the model of one file at ``path``, an absolute path of the image; None if it cannot be one there."""
    folder, file = posixpath.split(path)
    if posixpath.basename(url.partition("?")[0]) != file or not _NAME.fullmatch(posixpath.basename(folder)):
        return None
    return ModelDraft(name=posixpath.basename(folder), source=url, target=posixpath.dirname(folder))
