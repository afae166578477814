"""Objects that outlive edits: made once in the parent of the workers, which all workers then share.

``MODULE`` is imported there. ``MODULE:FUNCTION`` is called there with the arguments of which a worker told, and answers
them from memory; so `from MODULE import FUNCTION` needs no change.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pickle
from collections.abc import Callable, Iterable
from typing import Any

Call = tuple[str, bytes]
"""A function as ``MODULE:FUNCTION``, and its pickled arguments: positional, then by name."""


class KeepError(Exception):
    """Something declared cannot be kept; the text says why."""


class Kept:
    """A function that answers from memory where it knows the arguments."""

    def __init__(self, name: str, function: Callable[..., Any], tell: Callable[[Call], None] | None = None) -> None:
        functools.update_wrapper(self, function)
        self.name, self.tell = name, tell
        self._function = function
        self._results: dict[bytes, Any] = {}

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Return what the function returned for these arguments, or call it."""
        try:
            key = pickle.dumps((arguments, named))
        except Exception:  # noqa: BLE001 - whatever an object's own pickling raises
            return self._function(*arguments, **named)
        if key in self._results:
            return self._results[key]
        result = self._function(*arguments, **named)
        self._results[key] = result
        if self.tell is not None:
            self.tell((self.name, key))
        return result

    def remember(self, key: bytes) -> None:
        """Call the function now with these pickled arguments."""
        arguments, named = pickle.loads(key)  # noqa: S301 - a worker's, of the same user
        self(*arguments, **named)


def install_kept(names: Iterable[str]) -> dict[str, Kept]:
    """Import what is declared, and put the functions' stand-ins in place; return these by name.

    Raises KeepError for what cannot be kept, and whatever the modules' import raises.
    """
    found = {}
    for name in names:
        module_name, _, attribute = name.partition(":")
        module = importlib.import_module(module_name)
        if not attribute:
            continue
        if not hasattr(module, attribute):
            raise KeepError(f"{module_name} has no {attribute}, which is to be kept")
        value = getattr(module, attribute)
        if isinstance(value, type) or inspect.iscoroutinefunction(value):
            raise KeepError(f"{name} is a class or a coroutine; name a plain function that makes the object")
        if callable(value):
            found[name] = Kept(name, value)
            setattr(module, attribute, found[name])
    return found
