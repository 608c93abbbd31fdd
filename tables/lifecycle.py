"""How a producer's event and the passing of time change a reminder: ``(row, what came, now) -> Transition``. Pure."""

from schemas.names import (
    Action,
    Missed,
    Overlap,
    RequestKind,
    State,
    Withdrawal,
)
from schemas.quick import replace
from schemas.records import (
    Definition,
    Occurrence,
    ReminderEvent,
    ReminderRow,
)
from tables import actions, doubt, erasure, holding, insist, reach, schedule, series, turns
from tables.transition import (
    ASKABLE,
    MOVED,
    REOPENABLE,
    Arrival,
    Draft,
    Life,
    Rules,
    Transition,
    has_link,
    is_replay,
    link_request,
    max_lateness,
    may_have_been_asked,
    presses,
    stand_ins,
    start_step,
    state,
    unchanged,
    warned_at,
)


def _stale(row: ReminderRow, event: ReminderEvent, a: Arrival) -> str:
    """Return why an event is older than its row ("" if it is not). Numbers compare as numbers, the rest by record
    timestamp."""
    if a.event_id and a.event_id == row.event_id:
        return "duplicate"
    upsert = event.action is Action.UPSERT
    known = row.definition is not None
    if event.version > 0 and row.numbered:
        if event.version < row.version:
            return "stale_version"
        if upsert and event.version == row.version:
            return "duplicate" if known and not row.cancelled else "stale_version"
        return ""
    if upsert and known and (event.version > 0) is not row.numbered:
        return "mixed_versions"
    # Within a millisecond the order of the partition decides, but a cancel is never revived by what is not newer than
    # it.
    if a.record_ms < row.stamp or (upsert and row.cancelled and a.record_ms == row.stamp):
        return "stale_version"
    return ""


def of_another_tenant(row: ReminderRow | None, event: ReminderEvent, a: Arrival) -> bool:
    """Return whether an event is about a reminder that is another tenant's, or nobody's.

    A reminder keeps the tenant of its first UPSERT. What acts on it may name none, as operators do; an UPSERT may not,
    for it would take the tenant away.
    """
    d = row.definition if row is not None else None
    if d is None or event.tenant == d.tenant or is_replay(row, a):
        return False
    return event.tenant != "" or event.action is Action.UPSERT


def apply_event(
    rid: str, row: ReminderRow | None, event: ReminderEvent, definition: Definition | None, a: Arrival, rules: Rules
) -> Transition:
    """Apply a producer's event, already checked; an UPSERT comes with its definition."""
    if is_replay(row, a):
        return unchanged(row, "replay")
    if row is None:
        row = ReminderRow(created_at=a.now)
    elif (why := _stale(row, event, a)) != "":
        return _refused(rid, row, event, why, a, rules)
    match event.action:
        case Action.UPSERT if definition is not None:
            return _upsert(rid, row, event, definition, a, rules)
        case Action.CANCEL:
            return _cancel(rid, row, event, a, rules)
        case Action.ERASE:
            life = Life(rid, row, a, rules)
            _stamp(life.row, event, a)
            if event.version == 0 and row.numbered:
                # It is about whatever is there, and must not let an older number in.
                life.row.numbered, life.row.version = True, row.version
            erasure.by_event(life)
            return life.done(erasure.ERASED)
        case (
            Action.SNOOZE
            | Action.ACKNOWLEDGE
            | Action.PAUSE
            | Action.RESUME
            | Action.FIRE
            | Action.CONFIRM_SENT
            | Action.CONFIRM_NOT_SENT
        ):
            life = Life(rid, row, a, rules)
            before = life.row.freeze()
            _stamp(life.row, event, a)
            confirms = event.action in (Action.CONFIRM_SENT, Action.CONFIRM_NOT_SENT)
            result = doubt.confirm(life, event) if confirms else actions.apply(life, event)
            if result != "applied":
                _unstamp(life.row, before)
            return life.done(result)
        case _:
            raise ValueError(f"{event.action} cannot be applied")


def _refused(rid: str, row: ReminderRow, event: ReminderEvent, why: str, a: Arrival, rules: Rules) -> Transition:
    change = Life(rid, row, a, rules)
    remedy = (
        "number every event of a reminder, or none: keep to what its first UPSERT did"
        if why == "mixed_versions"
        else "send a higher version, or a later record timestamp"
    )
    change.note(
        state(row),
        why,
        action=event.action.value,
        o=row.open,
        field="version",
        value=str(event.version),
        remedy="" if why == "duplicate" else remedy,
    )
    return change.done(why)


def _stamp(row: Draft, event: ReminderEvent, a: Arrival) -> None:
    upsert = event.action is Action.UPSERT
    if upsert or row.definition is None:
        # Whether a reminder is numbered is its definition's to say; until there is one, whatever came last.
        row.numbered = event.version > 0
    if not row.numbered:
        row.version = a.record_ms
    elif event.version > 0:
        row.version = event.version
    row.event_id = a.event_id
    row.stamp = max(row.stamp, a.record_ms)


def _unstamp(row: Draft, before: ReminderRow) -> None:
    """Undo the stamp of an action that did not apply: it must not make what it did nothing to look newer."""
    row.numbered, row.version = before.numbered, before.version
    row.event_id, row.stamp = before.event_id, before.stamp


def _upsert(rid: str, before: ReminderRow, event: ReminderEvent, d: Definition, a: Arrival, rules: Rules) -> Transition:
    life = Life(rid, before, a, rules)
    _stamp(life.row, event, a)
    life.row.definition = d
    life.row.defined_at = a.record_ms
    old = before.definition
    moved_recipient = old is not None and old.recipient_id != d.recipient_id
    lets_go = moved_recipient or not has_link(d)
    if lets_go and old is not None and before.open is not None and has_link(old):
        life.row.link = life.row.link + 1
        if old.recipient_id not in stand_ins(d):
            life.emits.append(link_request(RequestKind.UNLINK, rid, life.row.link, old, a.now))
    if old is not None:
        life.let_go(old, d)
    if moved_recipient:
        life.row.zone = ""
        life.row.reachable = True
    o = before.open
    same_times = True
    if series.is_series(d):
        same_times = o is not None and old is not None and series.same_times(old, d)
        if not same_times:
            _counts_from(life, a)
    if o is None:
        return _upsert_closed(life, before, moved_recipient)
    candidate = _kept(d, o, rules) if same_times and series.is_series(d) else life.candidate()
    ours = candidate is not None and candidate.occurrence == o.occurrence
    if ours and series.is_series(d) and life.out_of_turn(o):
        candidate = _kept(d, o, rules)
    same = candidate is not None and candidate.occurrence == o.occurrence and not moved_recipient
    match o.state:
        case State.SENDING:
            _withdraw_replaced(life, before, moved_recipient)
        case State.WITHDRAWING:
            # No request has left since the withdrawal did: its answer serves, whatever becomes of the reminder then.
            reason = MOVED if moved_recipient else o.reason
            life.row.open = replace(o, withdrawal=Withdrawal.REPLACE, reason=reason)
            life.note(State.WITHDRAWING, "replaced", action=Action.UPSERT.value, o=life.row.open)
        case State.SENT | State.MAYBE_SENT if same:
            life.note(o.state, "text_only", action=Action.UPSERT.value, o=o)
        case State.SENT | State.MAYBE_SENT:
            life.close(o.state, "replaced", action=Action.UPSERT.value)
            life.open(reason="rescheduled", action=Action.UPSERT.value, anew=True, anyway=moved_recipient)
        case _:
            _replace_waiting(life, before, o, candidate, same, moved_recipient)
    return life.done()


def _counts_from(life: Life, a: Arrival) -> None:
    """Let the firings of a new rule count from the time of its event, which may have waited for us; what is older than
    anything that may still be sent does not count."""
    row, d = life.row, life.row.definition
    if d is not None:
        told = a.record_ms or a.now
        row.since = max(row.since, min(told, a.now), a.now - max_lateness(d, life.rules))
        life.replace_told()


def _kept(d: Definition, o: Occurrence, rules: Rules) -> Occurrence:
    """Return the open occurrence of a series whose times have not changed, under its new definition."""
    if o.state is State.PENDING:
        return replace(o, deadline=d.expires_at or o.deadline)
    deadline = o.due_at + max_lateness(d, rules)
    return replace(o, deadline=min(deadline, d.expires_at) if d.expires_at else deadline)


def _withdraw_replaced(life: Life, before: ReminderRow, moved: bool) -> None:
    reason = MOVED if moved else "replaced"
    life.withdraw(Withdrawal.REPLACE, reason, action=Action.UPSERT.value, sent_by=before.definition)


def _replace_waiting(
    life: Life, before: ReminderRow, o: Occurrence, candidate: Occurrence | None, same: bool, moved: bool
) -> None:
    """Put a new definition in the place of an occurrence that waits for its time.

    Where a call may have been made and the new definition would be sent under another id, what became of the old one is
    learnt first.
    """
    d, old = life.row.definition, before.definition
    if d is None or old is None:
        raise ValueError("what is open is defined")
    action = Action.UPSERT.value
    kept = candidate is not None and same and candidate.due_at == o.due_at and d.steps == old.steps
    asked = may_have_been_asked(o, life.now)
    if asked and not kept and (not same or o.asked_at or candidate is None or candidate.deadline <= life.now):
        _withdraw_replaced(life, before, moved)
        return
    if asked:
        # A request may have left in a unit that died; it has the old text.
        life.kill(old)
    if kept and candidate is not None:
        life.row.open = replace(life.row.open or o, deadline=candidate.deadline)
        life.look_ahead()
        life.note(o.state, "text_only", action=action, o=life.row.open)
        if d.recipient_id and bool(d.zone) is not bool(old.zone):
            life.link(d)
        return
    life.open(reason="updated" if same else "rescheduled", action=action, anew=not same, anyway=same or moved)


def _upsert_closed(life: Life, before: ReminderRow, moved: bool) -> Transition:
    """Apply an UPSERT to a reminder of which nothing is open: it is new, is reopened, moves, or has had its say."""
    new = not before.closed
    reason = "created" if new and before.definition is None else "reopened"
    life.open(reason=reason, action=Action.UPSERT.value, anew=not new, anyway=moved)
    return life.done("created" if new else "applied")


def _cancel(rid: str, row: ReminderRow, event: ReminderEvent, a: Arrival, rules: Rules) -> Transition:
    life = Life(rid, row, a, rules)
    action = Action.CANCEL.value
    if event.occurrence and row.definition is not None and series.is_series(row.definition):
        before = life.row.freeze()
        _stamp(life.row, event, a)
        result = actions.cancel_one(life, schedule.start_id(event.occurrence), action)
        if result != "applied":
            _unstamp(life.row, before)
        return life.done(result)
    if event.occurrence and not actions.names(life, event.occurrence):
        remedy = "name the original start of an open or recent occurrence"
        life.note(life.state(), "no_such_occurrence", action=action, o=row.open, field="occurrence", remedy=remedy)
        return life.done("no_such_occurrence")
    _stamp(life.row, event, a)
    o = row.open
    if o is None:
        last = row.closed[-1] if row.closed else None
        life.row.cancelled = row.cancelled or last is None or last.state in REOPENABLE
        if row.cancelled or (last is not None and last.state is State.CANCELLED):
            life.note(State.CANCELLED, "already_cancelled", action=action)
        elif last is not None and last.state in REOPENABLE:
            # It was never sent and a newer UPSERT would reopen it: from now on it is cancelled like any other.
            life.note(State.CANCELLED, "cancelled", action=action, occurrence=last.occurrence, round=last.round)
        elif last is not None:
            life.note(
                last.state,
                "cancel_too_late",
                action=action,
                detail=f"ended as {last.state.value}",
                occurrence=last.occurrence,
                round=last.round,
            )
        else:
            life.note(State.CANCELLED, "cancelled_before_create", action=action)
        return life.done()
    match o.state:
        case State.WITHDRAWING if o.withdrawal is Withdrawal.ERASE:
            life.note(State.WITHDRAWING, erasure.ERASING, action=action, o=o)
        case State.WITHDRAWING:
            life.row.open = replace(o, withdrawal=Withdrawal.CANCEL)
            life.note(State.WITHDRAWING, "cancelling", action=action, o=life.row.open)
        case State.SENDING:
            life.withdraw(Withdrawal.CANCEL, "cancelling", action=action)
        case State.SENT | State.MAYBE_SENT:
            life.cancel_too_late(o.state, action=action)
        case _ if may_have_been_asked(o, a.now):
            life.withdraw(Withdrawal.CANCEL, "cancelling", action=action)
        case _:
            life.cancel(action)
    return life.done()


def fire(
    rid: str, row: ReminderRow | None, due: int, now: int, rules: Rules, hold: str = "", published: int = 0
) -> Transition:
    """Act on a row whose due time or deadline (``due``) has come. A command that is late, early or doubled changes
    nothing. ``hold``: the reason of the hold that keeps it back now, which is then why it expires. ``published``: when
    the timer gave the command."""
    if row is None:
        return unchanged(row, "gone")
    life = Life(rid, row, Arrival(now), rules)
    o = row.open
    if o is None:
        if row.updated_at + rules.retention_ms > now:
            return unchanged(row, "early")
        return Transition(None, True, result="purged")
    held = o.state in (State.MAYBE_SENT, State.SENT, State.WITHDRAWING)
    if not row.reachable and 0 < warned_at(row, o) <= now:
        return reach.warn(life, o)
    if row.next_due <= now and presses(row, o):
        return _next_is_due(life, o, hold)
    if o.deadline <= now and not held:
        return _expire(life, o, hold or holding.kept_back(o) or "too_late")
    if o.due != due or o.due > now:
        return unchanged(row, "stale")
    _is_due(life, row, o, published)
    return life.done()


def _is_due(life: Life, row: ReminderRow, o: Occurrence, published: int) -> None:
    now, rules = life.now, life.rules
    match o.state:
        case State.SCHEDULED | State.RETRY | State.HELD if _missed(row, o, now):
            life.withdraw(Withdrawal.SUPERSEDE, holding.kept_back(o) or series.MISSED)
        case State.SCHEDULED | State.RETRY | State.HELD if o.insistence is not None and insist.has_answered(life):
            insist.acknowledged(life)
        case State.SCHEDULED | State.RETRY | State.HELD if turns.dropped(row.definition, o):
            insist.dropped(life)
        case State.SCHEDULED | State.RETRY | State.HELD:
            life.ask_again("due", published)
        case State.SENDING:
            life.ask_again("lease_expired", published)
        case State.WITHDRAWING:
            # The same withdrawal again, under its own number: a late answer to the first one is an answer.
            life.move(State.WITHDRAWING, o.reason, due=now + rules.withdraw_lease_ms)
            if o.reason != MOVED:
                life.say_withdraw()
        case State.SENT | State.MAYBE_SENT if turns.awaits(o):
            insist.go_on(life)
        case State.SENT:
            _receipt_missing(life, o)
        case State.MAYBE_SENT:
            life.move(State.MAYBE_SENT, "review", due=now + rules.review_ms)
        case State.PAUSED:
            life.move(State.PAUSED, "review", due=now + rules.review_ms)
        case State.PENDING:
            life.move(State.PENDING, "no_zone_yet", due=now + rules.profile_retry_ms)
            if row.definition is not None:
                life.link(row.definition)
        case _:
            raise ValueError(f"an open occurrence is never {o.state}")


def _missed(row: ReminderRow, o: Occurrence, now: int) -> bool:
    """Return whether an occurrence that was not asked for at its time is therefore not sent."""
    d = row.definition
    if d is None or d.policy is None or d.policy.missed is not Missed.SKIP:
        return False
    return _never_asked(o) and o.due_at < now - series.LATE_MS and o.reason != doubt.RESOLVED_NOT_SENT


def _never_asked(o: Occurrence) -> bool:
    return o.asked_at == 0 and o.step == 0 and o.attempt == 1 and not turns.repeated(o)


def _next_is_due(life: Life, o: Occurrence, hold: str) -> Transition:
    """Let an occurrence that is still open when the next one comes due end, or let the next one be left out.

    One that was never asked for was missed. One that is asleep was paused. A doubt stands in nobody's way.
    """
    d = life.row.definition
    if d is None:
        raise ValueError("a series is defined")
    waited = _never_asked(o) and o.due_at <= life.now
    match o.state:
        case State.PAUSED:
            life.close(State.SKIPPED, series.PAUSED)
        case State.SCHEDULED | State.HELD | State.RETRY if waited:
            life.withdraw(Withdrawal.SUPERSEDE, hold or holding.kept_back(o) or series.MISSED)
        case State.MAYBE_SENT:
            life.close(State.MAYBE_SENT, "superseded")
        case _ if series.overlap_rule(d) is Overlap.SKIP:
            life.overlap(o)
        case State.SENT:
            life.close(State.SENT, "superseded")
        case _ if may_have_been_asked(o, life.now):
            life.withdraw(Withdrawal.SUPERSEDE, "superseded")
        case _:
            life.close(State.SKIPPED, "superseded")
    return life.done()


def _expire(life: Life, o: Occurrence, why: str) -> Transition:
    if o.state is State.SENDING or (o.state in ASKABLE and (o.asked_at or o.due_at <= life.now)):
        # A unit that died may have asked; only delivery knows, so it is withdrawn before it is called expired.
        life.withdraw(Withdrawal.EXPIRE, why)
    else:
        life.close(State.EXPIRED, why)
    return life.done()


def _receipt_missing(life: Life, o: Occurrence) -> None:
    steps = turns.chain(life.row.definition, o)
    if o.step + 1 < len(steps):
        start_step(life, o, steps[o.step + 1].channel, "receipt_missing")
    else:
        insist.chain_ended(life, State.SENT, "receipt_missing", {})
