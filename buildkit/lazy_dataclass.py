"""``dataclass`` of the standard library, whose methods are not compiled before a class is used.

A build with nothing to do defines a hundred such classes and makes values of a third of them. Compiling the five or six
methods of each takes half of the time in which our modules load. Here only ``__init__`` is compiled, when the first
value is made; the others are functions of the fields' names. To the type checker it is the standard library's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    import dataclasses
    from operator import attrgetter

    def dataclass(*, frozen=False, slots=False, kw_only=False):
        """Return the decorator; the options are those of `dataclasses.dataclass`, of which there are no more here."""

        def decorate(cls):
            cls.__doc__ = cls.__doc__ or cls.__name__  # else it would be made of the signature
            made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)(cls)
            for name, method in _methods(made, frozen=frozen).items():
                if made.__dict__.get(name) is None:
                    setattr(made, name, method)
            return made

        return decorate

    def _methods(cls, *, frozen):
        fields = dataclasses.fields(cls)
        compared = _getter(field.name for field in fields if field.compare)
        hashed = _getter(field.name for field in fields if (field.compare if field.hash is None else field.hash))

        def init(self, *args, **kwargs):
            cls.__init__ = _compile_init(cls)
            cls.__init__(self, *args, **kwargs)

        def equals(self, other):
            return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

        methods = {"__init__": init, "__repr__": _repr, "__eq__": equals}
        if not frozen:
            return methods | {"__hash__": None}
        methods |= {"__setattr__": _refuse, "__delattr__": _refuse, "__hash__": lambda self: hash(hashed(self))}
        return methods | {"__getstate__": _get_state, "__setstate__": _set_state}

    def _getter(names):
        wanted = tuple(names)
        return attrgetter(*wanted) if wanted else lambda _self: ()

    def _repr(self):
        shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
        return f"{self.__class__.__qualname__}({', '.join(shown)})"

    def _refuse(_self, name, *_value):
        raise dataclasses.FrozenInstanceError(f"cannot change field {name!r}")

    def _get_state(self):
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    def _set_state(self, state):
        for field, value in zip(dataclasses.fields(self), state, strict=True):
            object.__setattr__(self, field.name, value)

    def _compile_init(cls):
        missing, known, positional, named, lines = dataclasses.MISSING, {}, [], [], []
        for field in dataclasses.fields(cls):
            name = field.name
            slot = cls.__dict__.get(name) or getattr(cls, name, None)
            known |= {f"set_{name}": getattr(slot, "__set__", None), f"default_{name}": field.default}
            known[f"make_{name}"] = field.default_factory
            default = f"=default_{name}" if (field.default, field.default_factory) != (missing, missing) else ""
            if field.init:
                (named if field.kw_only else positional).append(f"{name}{default}")
            elif not default:
                continue
            value = name if field.init else f"default_{name}"
            if field.default_factory is not missing:
                value = f"make_{name}() if {value} is missing else {value}"
            set_it = f"set_{name}(self, " if known[f"set_{name}"] else f"set_attribute(self, {name!r}, "
            lines.append(f"{set_it}{value})")
        if hasattr(cls, "__post_init__"):
            lines.append("self.__post_init__()")
        head = ", ".join(["self", *positional, *(["*", *named] if named else [])])
        known |= {"missing": missing, "set_attribute": object.__setattr__}
        exec(f"def __init__({head}):\n " + "\n ".join(lines or ["pass"]), known)  # noqa: S102 - names of our own fields
        return known["__init__"]


__all__ = ["dataclass"]
