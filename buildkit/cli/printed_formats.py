"""Formats in which sessions print what they would start: one option for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from buildkit.running.gpu_notes import GpuFormat

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedFormat(Generic[T]):
    """A format: what it is, as ``--help`` says, how it is rendered, and who reads it; None: nobody starts anything.

    ``here`` is whether services of this host run by it, which read files of this host.
    """

    about: str
    render: Callable[[T], str]
    reader: GpuFormat | None = None
    here: bool = False


class _Options(Protocol):
    def add_argument(self, *names: str, **settings: Any) -> object: ...  # noqa: ANN401 - as argparse has it


def add_format_arguments(options: _Options, formats: Mapping[str, PrintedFormat[T]]) -> None:
    """Add an option for each format, by its name; ``format`` is the one that was given, None without one."""
    for name, form in formats.items():
        options.add_argument(
            f"--{name}", dest="format", action="store_const", const=name, help=f"only print the {form.about}"
        )
