"""Frozen records that are quick to make: the same classes, filled while their slots can still be set.

A frozen dataclass sets each field by ``object.__setattr__``, eight times the cost of an assignment, and an intake of
one event makes records with some two hundred fields. Here a record is filled as its *twin*, a class of the same layout
whose slots can be set, and becomes the record by its ``__class__``. Signature, defaults, equality, and that nobody
changes it afterwards stay as they are. For records without ``__post_init__``.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["copier", "freezer", "quicken", "replace", "twin"]

R = TypeVar("R")


_TWINS: dict[type, type] = {}


def twin(kind: type) -> type:
    """Return a class laid out like a record's, whose slots can be set."""
    if kind not in _TWINS:
        slots = {"__slots__": tuple(field.name for field in _fields(kind))}
        _TWINS[kind] = type(f"_{kind.__name__}", (), slots)
    return _TWINS[kind]


def quicken(kind: type[R]) -> type[R]:
    """Give a frozen slotted dataclass an ``__init__`` that does what its own does, in a quarter of the time."""
    if hasattr(kind, "__post_init__"):
        raise TypeError(f"{kind.__name__} has a __post_init__")
    scope: dict[str, Any] = {"put": object.__setattr__, "TWIN": twin(kind), "KIND": kind}
    takes, lines = ["self"], ["put(self, '__class__', TWIN)"]
    for field in _fields(kind):
        name = field.name
        value = name
        if field.default is not dataclasses.MISSING:
            scope[f"default_{name}"] = field.default
            takes.append(f"{name}=default_{name}")
        elif field.default_factory is not dataclasses.MISSING:
            scope[f"make_{name}"] = field.default_factory
            takes.append(f"{name}=make_{name}")
            value = f"make_{name}() if {name} is make_{name} else {name}"
        else:
            takes.append(name)
        lines.append(f"self.{name} = {value}")
    lines.append("self.__class__ = KIND")
    made = _function("__init__", takes, lines, scope)
    made.__qualname__ = f"{kind.__qualname__}.__init__"
    made.__annotations__ = dict(kind.__init__.__annotations__)
    setattr(kind, "__init__", made)  # noqa: B010 - a class that mypy lets nobody assign to
    return kind


def copier(kind: type, into: type) -> Callable[[Any], Any]:
    """Return a function that copies what has the fields of a ``kind`` into a new ``into``, without its ``__init__``."""
    lines = ["o = new(INTO)", *(f"o.{field.name} = given.{field.name}" for field in _fields(kind))]
    return _function("copy", ["given"], [*lines, "return o"], {"new": object.__new__, "INTO": into})


def freezer(kind: "type[R]") -> Callable[[Any], R]:
    """Return a function that copies what has the fields of a ``kind`` into a new ``kind``."""
    copy = copier(kind, twin(kind))

    def freeze(given: Any) -> R:
        made = copy(given)
        made.__class__ = kind
        return made  # type: ignore[no-any-return]

    return freeze


def _fields(kind: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(kind)


def _function(name: str, takes: list[str], lines: list[str], scope: dict[str, Any]) -> Callable[..., Any]:
    body = "\n    ".join(lines)
    exec(f"def {name}({', '.join(takes)}):\n    {body}", scope)  # noqa: S102 - the names are our own fields
    made: Callable[..., Any] = scope[name]
    return made


if TYPE_CHECKING:
    from dataclasses import replace
else:
    _COPIERS: dict[type, Callable[[Any], Any]] = {}

    def replace(record, /, **changes):
        """Return a copy with some fields changed, like ``dataclasses.replace``; raise AttributeError for another."""
        kind = type(record)
        copy = _COPIERS.get(kind)
        if copy is None:
            copy = _COPIERS[kind] = copier(kind, twin(kind))
        made = copy(record)
        for name, value in changes.items():
            setattr(made, name, value)
        made.__class__ = kind
        return made
