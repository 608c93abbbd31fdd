"""Any definition in any zone: in order, the same from wherever one begins, and each found again by its name."""

from datetime import datetime, timedelta
from itertools import islice, pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.checks import zone_names
from schemas.records import Definition, ReminderEvent
from tables import schedule
from tables.admission import times_fault
from tables.calendars import Calendar, DayOff
from tables.schedule import TimeRules
from tests.effort import times

#: Where clocks do what few do, and some where they do nothing.
ZONES = (
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Nuuk", "Pacific/Apia", "Africa/Casablanca",
    "Antarctica/Troll", "Asia/Kathmandu", "America/Sao_Paulo", "America/Havana", "Asia/Gaza", "Etc/GMT+12",
)  # fmt: skip
CALENDARS = {f"{how}-{code}": Calendar(f"{how}-{code}", code, how) for how in DayOff for code in ("DE-BY", "")} | {
    "gulf": Calendar("gulf", "", DayOff.AFTER, frozenset({4, 5}))
}
RULES = TimeRules(7, CALENDARS)
DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")

#: Changes of clocks lie in these months and hours.
walls = st.builds(
    datetime,
    st.sampled_from([2011, 2018, 2024, 2025, 2026]),
    st.sampled_from([2, 3, 4, 9, 10, 11, 12]),
    st.integers(1, 28),
    st.sampled_from([0, 1, 2, 3, 12, 22, 23]),
    st.sampled_from([0, 15, 30, 45]),
)


@st.composite
def rules(draw: st.DrawFn) -> str:
    freq = draw(st.sampled_from(["DAILY"] * 4 + ["WEEKLY", "MONTHLY", "YEARLY", "HOURLY", "MINUTELY"]))
    parts = [f"FREQ={freq}", f"INTERVAL={draw(st.integers(1, 3 if freq != 'MINUTELY' else 50))}"]
    if draw(st.booleans()):
        hours = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True))
        parts.append(f"BYHOUR={','.join(map(str, hours))}")
    if draw(st.integers(0, 2)) == 0:
        minutes = draw(st.lists(st.sampled_from([0, 15, 30, 45]), min_size=1, max_size=3, unique=True))
        parts.append(f"BYMINUTE={','.join(map(str, minutes))}")
    if draw(st.integers(0, 3)) == 0:
        parts.append(f"BYDAY={','.join(draw(st.lists(st.sampled_from(DAYS), min_size=1, max_size=4, unique=True)))}")
    match draw(st.integers(0, 3)):
        case 0:
            parts.append(f"COUNT={draw(st.integers(1, 40))}")
        case 1:
            parts.append(f"UNTIL={draw(walls):%Y%m%d}{draw(st.sampled_from(['', 'T013000', 'T013000Z']))}")
    return ";".join(parts)


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    start = draw(walls)
    cron = draw(st.integers(0, 5)) == 0
    all_day = not cron and draw(st.integers(0, 5)) == 0
    local = start.date().isoformat() if all_day else start.isoformat(timespec="minutes")

    def near(most: int) -> tuple[str, ...]:
        found = (start + timedelta(days=draw(st.integers(0, 20)), hours=draw(st.integers(-2, 2))) for _ in range(most))
        return tuple(d.date().isoformat() if all_day else d.isoformat(timespec="minutes") for d in found)

    return Definition(
        local="" if cron else local,
        rrule="" if cron or draw(st.integers(0, 4)) == 0 else draw(rules()),
        cron=draw(st.sampled_from(["30 2 * * *", "*/15 1-3 * * *", "0 0,2 * * SUN", "15 * 29 * *"])) if cron else "",
        exclude=near(draw(st.integers(0, 3))),
        rdates=near(draw(st.integers(0, 3))),
        before=tuple(draw(st.lists(st.sampled_from(["PT0S", "P1D", "PT1H", "PT24H", "P2DT1H", "-PT2H"]), max_size=3))),
        calendar=draw(st.sampled_from(["", "", "", *CALENDARS])),
    )


@settings(
    max_examples=times(150), deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
@given(
    d=definitions(),
    name=st.one_of(st.sampled_from(ZONES), st.sampled_from(sorted(zone_names()))),
    after=st.integers(0, 10**9),
)
def test_any_definition(d: Definition, name: str, after: int) -> None:
    event = ReminderEvent(
        "r/1", "anna", d.local, name, "x", rrule=d.rrule, cron=d.cron, exclude=d.exclude, rdates=d.rdates,
        before=d.before, calendar=d.calendar,
    )  # fmt: skip
    if (fault := times_fault(event, RULES)) is not None:
        assert fault.reason.value in ("bad_rrule", "never_fires", "fires_too_often")
        return
    begin = schedule.instant("2011-12-20", name) if d.cron else 0
    found = list(islice(schedule.firings(d, name, begin, RULES), 60))
    assert found
    assert all(a.due_at < b.due_at for a, b in pairwise(found))
    assert len({f.occurrence_id for f in found}) == len(found)
    last = begin - 1
    for firing in found:
        assert schedule.next_firing(d, name, last, RULES) == firing
        # And from anywhere between the two.
        between = last + 1 + after % (firing.due_at - last)
        assert next(schedule.firings(d, name, between, RULES)) == firing
        last = firing.due_at
        again = schedule.firing(d, name, firing.occurrence_id, RULES)
        assert again is not None
        assert (again.due_at, again.start_at) == (firing.due_at, firing.start_at)
    assert schedule.last_firing(d, name, begin - 1, found[-1].due_at, RULES) == found[-1]
