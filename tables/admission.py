"""Whether a reminder's times can be followed: what of them intake refuses, and why. Pure.

``schemas.checks`` looks at each value alone; this looks at what they mean together: a rule that never fires, one that
fires too often, one that would take long to work out.
"""

from itertools import islice, takewhile

from schemas import zones
from schemas.checks import Fault, Reason, check_reminder, shown, unreadable, wall_clock
from schemas.names import Action
from schemas.records import Definition, ReminderEvent
from tables import crontab, offsets, recurrence, schedule
from tables.calendars import DayOff
from tables.recurrence import Elapsed, Freq, Rule, RuleError
from tables.schedule import TimeRules

#: The most firings of a reminder on one day: one a minute.
MOST_A_DAY = 1440
#: The same where a calendar moves what falls on days off: all of several days is worked out to put one in order.
MOST_A_DAY_MOVED = 96
MAX_RRULE = 2000
MAX_DATES = 1000
MAX_BEFORE = 20
#: A further start is in one of these years: with its offset and its zone it must not lead out of the calendar.
FIRST_YEAR, LAST_YEAR = 1800, 9900
_DAY = 86_400


def event_fault(event: ReminderEvent, now_ms: int, record_ms: int, rules: TimeRules | None = None) -> Fault | None:
    """Return what is wrong with an event of topic ``reminders``, its times included, else None."""
    return check_reminder(event, now_ms, record_ms) or times_fault(event, rules)


def times_fault(event: ReminderEvent, rules: TimeRules | None = None) -> Fault | None:
    """Return what is wrong with the times of an UPSERT that ``schemas.checks`` has let pass, else None.

    ``rules`` None: the configured calendars are not known here, so any name of one passes. Without a zone the rules are
    tried in UTC.
    """
    if event.action is not Action.UPSERT or not _says_more_than_a_start(event):
        return None
    return (
        _shape(event)
        or _rule(event)
        or _cron(event)
        or _dates(event)
        or _before(event)
        or (_calendar(event, rules) if rules is not None else None)
        or _firing(event, rules or TimeRules())
    )


def _says_more_than_a_start(event: ReminderEvent) -> bool:
    return bool(event.rrule or event.cron or event.exclude or event.rdates or event.before or event.calendar)


def _shape(event: ReminderEvent) -> Fault | None:
    if event.rrule and not event.local:
        other = "cron" if event.cron else "at"
        remedy = f"send local for the rule to count from; {other} stands alone"
        return Fault(Reason.SEVERAL_STARTS, "rrule", shown(event.rrule), remedy)
    for field in ("exclude", "rdates"):
        if getattr(event, field) and event.at is not None:
            remedy = f"send {field} beside local or cron; an instant has no wall clock"
            return Fault(Reason.SEVERAL_STARTS, field, shown(getattr(event, field)[0]), remedy)
    return None


def _rule(event: ReminderEvent) -> Fault | None:
    if not event.rrule:
        return None
    if len(event.rrule) > MAX_RRULE:
        return Fault(Reason.TOO_LARGE, "rrule", f"{len(event.rrule)} characters", f"send at most {MAX_RRULE}")
    try:
        rule = recurrence.parse(event.rrule, len(event.local) == 10)
    except RuleError as exc:
        return Fault(Reason.BAD_RRULE, "rrule", shown(exc.value), exc.remedy)
    times = max(1, len(rule.by_hour)) * max(1, len(rule.by_minute)) * max(1, len(rule.by_second))
    if times > MOST_A_DAY and not rule.elapsed:
        return _too_often("rrule", event.rrule)
    return None


def _cron(event: ReminderEvent) -> Fault | None:
    if not event.cron:
        return None
    try:
        crontab.check(event.cron)
    except crontab.CronError as exc:
        return Fault(Reason.BAD_CRON, "cron", shown(event.cron), str(exc))
    return None


def _dates(event: ReminderEvent) -> Fault | None:
    all_day = len(event.local) == 10
    for field in ("exclude", "rdates"):
        dates: tuple[str, ...] = getattr(event, field)
        if len(dates) > MAX_DATES:
            return Fault(Reason.TOO_LARGE, field, f"{len(dates)} entries", f"send at most {MAX_DATES} entries")
        for n, text in enumerate(dates):
            name = f"{field}[{n}]"
            wall = wall_clock(text)
            if wall is None:
                return unreadable(text, name)
            if field == "rdates" and not FIRST_YEAR <= wall.year <= LAST_YEAR:
                remedy = f"send a year from {FIRST_YEAR} to {LAST_YEAR}"
                return Fault(Reason.IMPLAUSIBLE_TIME, name, shown(text), remedy)
            if all_day and len(text) != 10:
                remedy = "send a date alone, as local is one"
                return Fault(Reason.UNREADABLE_TIME, name, shown(text), remedy)
            if not all_day and len(text) == 10 and field == "rdates":
                remedy = "send a date and a time, as 2026-12-01T09:00, as local has one"
                return Fault(Reason.UNREADABLE_TIME, name, shown(text), remedy)
    return None


def _before(event: ReminderEvent) -> Fault | None:
    if len(event.before) > MAX_BEFORE:
        return Fault(Reason.TOO_LARGE, "before", f"{len(event.before)} entries", f"send at most {MAX_BEFORE} entries")
    for n, text in enumerate(event.before):
        try:
            offsets.parse(text)
        except offsets.OffsetError as exc:
            return Fault(Reason.BAD_DURATION, f"before[{n}]", shown(text), str(exc))
    return None


def _calendar(event: ReminderEvent, rules: TimeRules) -> Fault | None:
    if not event.calendar or event.calendar in rules.calendars:
        return None
    known = ", ".join(sorted(rules.calendars)[:10]) or "none is configured"
    remedy = f"send the name of a configured calendar ({known}); CALENDARS_FILE has them"
    return Fault(Reason.UNKNOWN_CALENDAR, "calendar", shown(event.calendar), remedy)


def _too_often(field: str, value: str, most: int = MOST_A_DAY) -> Fault:
    beside = "" if most == MOST_A_DAY else ", beside a calendar that moves days"
    remedy = f"send a rule that fires at most {most} times a day, offsets counted{beside}"
    return Fault(Reason.FIRES_TOO_OFTEN, field, shown(value), remedy)


def _never(event: ReminderEvent) -> Fault:
    field = next((name for name in ("cron", "rrule", "local") if getattr(event, name)), "at")
    value = getattr(event, field)
    remedy = "send times that come: this names none that is not excluded or a day off"
    return Fault(Reason.NEVER_FIRES, field, shown(str(value)), remedy)


def _firing(event: ReminderEvent, rules: TimeRules) -> Fault | None:
    """Try the times as a whole, at a bounded cost."""
    zone = event.zone or "Etc/UTC"
    calendar = event.calendar if event.calendar in rules.calendars else ""
    d = Definition(
        local=event.local,
        zone=zone,
        at=event.at,
        rrule=event.rrule,
        cron=event.cron,
        exclude=event.exclude,
        rdates=event.rdates,
        before=event.before,
        calendar=calendar,
    )
    if not (event.cron or event.exclude or event.before or calendar) and _surely_fires(event, zone):
        return None
    offsets_given = max(1, len(set(event.before)))
    moves = calendar and rules.calendars[calendar].day_off in (DayOff.BEFORE, DayOff.AFTER)
    most = MOST_A_DAY_MOVED if moves else MOST_A_DAY
    try:
        if event.cron and crontab.most_a_day(event.cron) * offsets_given > most:
            return _too_often("cron", event.cron, most)
        if event.rrule:
            rule = recurrence.parse(event.rrule, len(event.local) == 10)
            if not _names_any(rule, event.local, zone):
                return _never(event)
            if _most_a_day(rule, event.local, zone) * offsets_given > most:
                return _too_often("rrule", event.rrule, most)
        if schedule.next_firing(d, zone, 0, rules) is None:
            return _never(event)
    except RuleError as exc:
        return Fault(Reason.BAD_RRULE, "rrule", shown(exc.value), exc.remedy)
    except OverflowError:
        return Fault(Reason.IMPLAUSIBLE_TIME, "local", shown(event.local), "send times that the calendar has years for")
    return None


def _surely_fires(event: ReminderEvent, zone: str) -> bool:
    """Return whether one look at a rule says that it fires, and not too often.

    Most rules are of such ordinary shape, so nothing of them need be worked out.
    """
    if not event.rrule:
        return bool(event.rdates)
    rule = recurrence.parse(event.rrule, len(event.local) == 10)
    if rule.until or rule.by_set_pos or rule.by_week or rule.by_year_day:
        return False
    if rule.count and (not rule.plain or rule.freq in (Freq.MONTHLY, Freq.YEARLY)):
        return False
    if rule.elapsed:
        a_day = _DAY // (rule.interval * recurrence.UNIT_S[rule.freq])
        return rule.plain and a_day < MOST_A_DAY
    if _most_a_day(rule, event.local, zone) > MOST_A_DAY:
        return False
    match rule.freq:
        case Freq.WEEKLY:
            return not rule.by_month
        case Freq.DAILY | Freq.MONTHLY:
            return not rule.by_date or (
                rule.interval == 1 and not rule.by_month and not (rule.by_day and rule.by_month_day)
            )
        case _:
            return not rule.by_date


def _names_any(rule: Rule, local: str, zone: str) -> bool:
    """Return whether a rule names anything at all: its start comes whether it does or not."""
    start, known = wall_clock(local), zones.zone(zone)
    if start is None or known is None:
        return False
    if rule.elapsed:
        return rule.count == 1 or _elapsed(rule, local, zone) > 1
    return recurrence.series(rule, start).names_any()


def _elapsed(rule: Rule, local: str, zone: str, within_s: int | None = None) -> int:
    """Return how often a rule of hours or less fires from its start on, as far as it matters: two, or within a time."""
    known = zones.zone(zone)
    if known is None:
        return 0
    begin = schedule.instant(local, zone) // 1000
    found = Elapsed(rule, begin, known).seconds(begin)
    if within_s is None:
        return len(list(islice(found, 2)))
    return sum(1 for _ in islice(takewhile(lambda second: second < begin + within_s, found), MOST_A_DAY + 1))


def _most_a_day(rule: Rule, local: str, zone: str) -> int:
    if not rule.elapsed:
        return max(1, len(rule.by_hour)) * max(1, len(rule.by_minute)) * max(1, len(rule.by_second))
    return _elapsed(rule.of_any_day(), local, zone, _DAY)
