import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from agents.meter import METRICS, STAGE_DOCS, Bounded, Meter, MetricKind, MetricSpec, Stage, document
from schemas.names import Channel, OutcomeKind, State

ROOT = Path(__file__).resolve().parents[2]


def used() -> Meter:
    """Return a meter of which every instrument has been used."""
    meter = Meter(CollectorRegistry(), process=False)
    meter.event("UPSERT", "scheduled")
    meter.rejected("no_zone", "clinic")
    meter.due(3)
    meter.lateness(Stage.CLAIMED, Channel.EMAIL, 0.004)
    meter.outcome(Channel.EMAIL, "smtp", OutcomeKind.ACCEPTED)
    meter.call(Channel.EMAIL, "smtp", 0.2)
    meter.unknown_code(Channel.SMS, "twilio")
    meter.digest(Channel.SMS, 3)
    with meter.in_flight(Channel.EMAIL):
        pass
    meter.dlq("no_zone")
    meter.dlq_open({"no_zone": 2})
    meter.orphans({"row": 1}, 0.5)
    meter.sealed_otherwise({"older_key": 2})
    meter.unit(0.001)
    meter.recovery(5)
    meter.rows(State.SCHEDULED, 7)
    meter.oldest_unacked("reminders", {3: 1.5})
    meter.circuit("email", "smtp", 2)
    meter.forwarded()
    meter.scan()
    meter.tzdata("2026a", 1_767_225_600)
    return meter


def families() -> dict[str, tuple[str, str, set[str]]]:
    found = {}
    for family in text_string_to_metric_families(used().expose().decode()):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = (family.type, family.documentation, labels)
    return found


def test_the_page_is_made_from_the_data() -> None:
    assert (ROOT / "docs/metrics.md").read_text("utf-8") == document()


def test_what_is_exposed_is_what_is_declared() -> None:
    assert families() == {spec.name: (spec.kind.value, spec.doc, set(spec.labels)) for spec in METRICS}


@pytest.mark.parametrize("spec", METRICS, ids=lambda spec: spec.name)
def test_names_follow_the_rules_of_promtool(spec: MetricSpec) -> None:
    assert re.fullmatch(r"(reminders|notifications)_[a-z0-9_]+", spec.name)
    assert spec.name.endswith("_total") == (spec.kind is MetricKind.COUNTER)
    assert not spec.name.endswith(("_count", "_sum", "_bucket"))
    assert not re.search(r"_(counter|gauge|histogram|ms|milliseconds|minutes|kb)(_|$)", spec.name)
    assert (spec.kind is MetricKind.HISTOGRAM) == bool(spec.buckets)
    # What is counted names itself where it is no time.
    assert not spec.buckets or spec.name.endswith(("_seconds", "_members"))
    assert spec.doc.endswith(".")
    assert list(spec.buckets) == sorted(set(spec.buckets))
    assert not set(spec.labels) & {"id", "reminder", "recipient", "le", "job", "instance"}


def test_every_stage_is_documented() -> None:
    assert list(STAGE_DOCS) == list(Stage)


def test_labels_from_outside_are_bounded() -> None:
    label = Bounded(limit=3)
    assert [label(v) for v in ("a", "b", "", "c", "d", "a", "c")] == ["a", "b", "none", "c", "other", "a", "c"]
    hostile = ("anna@example.org", "+491701234567", "491701234567", "a b", "x" * 41, 'a"b', "a\nb", "ä")
    assert {Bounded()(value) for value in hostile} == {"other"}


def test_hostile_sources_cannot_grow_the_series() -> None:
    meter = Meter(process=False)
    for n in range(10_000):
        meter.rejected("no_zone", f"source-{n}")
    lines = [line for line in meter.expose().decode().splitlines() if line.startswith("reminders_rejected_total{")]
    assert len(lines) == 51
    assert 'reminders_rejected_total{reason="no_zone",source="other"} 9950.0' in lines


def test_calls_are_counted_down_again_after_an_exception() -> None:
    meter = Meter(process=False)
    with pytest.raises(RuntimeError), meter.in_flight(Channel.EMAIL):
        raise RuntimeError
    assert 'notifications_in_flight{channel="EMAIL"} 0.0' in meter.expose().decode()


def test_two_meters_do_not_share_a_registry() -> None:
    one, two = Meter(process=False), Meter(process=False)
    one.scan()
    assert "reminders_scans_total 0.0" in two.expose().decode()


def test_lateness_is_never_negative() -> None:
    meter = Meter(process=False)
    meter.lateness(Stage.CALLED, Channel.SMS, -0.5)
    assert 'reminders_lateness_seconds_sum{channel="SMS",stage="called"} 0.0' in meter.expose().decode()


def test_a_reason_whose_letters_are_all_closed_is_told_as_none() -> None:
    meter = Meter(CollectorRegistry(), process=False)
    meter.dlq_open({"no_zone": 2, "bug": 1})
    meter.dlq_open({"bug": 3})
    lines = [line for line in meter.expose().decode().splitlines() if line.startswith("reminders_dlq_open{")]
    assert sorted(lines) == ['reminders_dlq_open{reason="bug"} 3.0', 'reminders_dlq_open{reason="no_zone"} 0.0']


def test_partitions_that_were_given_up_are_told_no_more() -> None:
    meter = Meter(process=False)
    meter.oldest_unacked("reminders", {0: 2.0, 1: 0.0})
    meter.oldest_unacked("recipients", {0: 1.0})
    meter.oldest_unacked("reminders", {1: 3.0})
    shown = [line for line in meter.expose().decode().splitlines() if line.startswith("reminders_oldest_unacked")]
    assert sorted(shown) == [
        'reminders_oldest_unacked_seconds{partition="0",topic="recipients"} 1.0',
        'reminders_oldest_unacked_seconds{partition="1",topic="reminders"} 3.0',
    ]


def test_how_many_holds_are_in_force_is_told_by_kind_alone() -> None:
    meter = Meter(process=False)
    meter.held(["tenant:clinic", "tenant:bank", "*"])
    shown = {line for line in meter.expose().decode().splitlines() if line.startswith("reminders_held{")}
    assert 'reminders_held{scope="tenant"} 2.0' in shown
    assert 'reminders_held{scope="everything"} 1.0' in shown
    assert "clinic" not in str(shown)
    assert len(shown) == 6
