"""Records made quickly are the records that a plain frozen dataclass makes."""

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from schemas import quick, records
from schemas.names import State
from schemas.records import AuditEntry, Occurrence, ReminderEvent, ReminderRow

KINDS = [k for k in vars(records).values() if isinstance(k, type) and dataclasses.is_dataclass(k)]


def _made(kind: Any) -> Any:
    needed = [f for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
    return kind(*[object() for _ in needed])


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_a_record_has_the_signature_and_defaults_of_its_dataclass(kind: Any) -> None:
    plain = dataclasses.make_dataclass(
        kind.__name__, [(f.name, f.type, dataclasses.field(**_default(f))) for f in dataclasses.fields(kind)]
    )
    ours, theirs = inspect.signature(kind), inspect.signature(plain)
    assert list(ours.parameters) == list(theirs.parameters)
    needed = [object() for p in ours.parameters.values() if p.default is inspect.Parameter.empty]
    made, expected = kind(*needed), plain(*needed)
    assert all(getattr(made, f.name) == getattr(expected, f.name) for f in dataclasses.fields(kind))
    with pytest.raises(TypeError):
        kind(*needed, no_such_field=1)


def _default(f: Any) -> dict[str, Any]:
    if f.default is not dataclasses.MISSING:
        return {"default": f.default}
    return {} if f.default_factory is dataclasses.MISSING else {"default_factory": f.default_factory}


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_a_record_is_frozen_and_replaced_like_a_dataclass(kind: Any) -> None:
    made = _made(kind)
    name = dataclasses.fields(kind)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, name, 1)
    ours, theirs = quick.replace(made, **{name: "other"}), dataclasses.replace(made, **{name: "other"})
    assert type(ours) is kind
    assert ours == theirs != made
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(ours, name, 1)
    with pytest.raises(AttributeError):
        quick.replace(made, no_such_field=1)


def test_a_default_that_is_made_is_made_anew() -> None:
    first, second = ReminderEvent("a"), ReminderEvent("a")
    assert first.data == {}
    assert first.data is not second.data


def test_a_record_can_be_copied_pickled_hashed_and_shown() -> None:
    o = Occurrence("@1/PT0S", State.SENT, 1, 2, 3)
    assert copy.deepcopy(o) == pickle.loads(pickle.dumps(o)) == o
    assert hash(o) == hash(copy.copy(o))
    assert repr(o).startswith("Occurrence(occurrence='@1/PT0S'")
    assert AuditEntry.__match_args__[0] == "reminder_id"


def test_what_checks_itself_cannot_be_quickened() -> None:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Checked:
        n: int

        def __post_init__(self) -> None:
            raise ValueError

    with pytest.raises(TypeError, match="__post_init__"):
        quick.quicken(Checked)


def test_a_copy_into_another_class_shares_the_fields_and_freezes_back() -> None:
    class Loose:
        __slots__ = tuple(f.name for f in dataclasses.fields(ReminderRow))

    row = _made(ReminderRow)
    loose = quick.copier(ReminderRow, Loose)(row)
    loose.seq = 7
    frozen = quick.freezer(ReminderRow)(loose)
    assert frozen == dataclasses.replace(row, seq=7)
    assert type(loose) is Loose
