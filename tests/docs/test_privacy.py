"""docs/privacy.md says of every topic how what is personal goes from it, and says the truth."""

import re
from pathlib import Path

from app import privacy
from app.privacy import MEANS, Means
from app.topics import Cleanup

PAGE = Path(__file__).parents[2] / "docs" / "privacy.md"


def test_the_page_has_the_table() -> None:
    assert privacy.table() in PAGE.read_text("utf-8"), "print app.privacy.table() into the page"


def test_every_topic_has_its_means_and_no_other() -> None:
    assert set(MEANS) == {spec.name for spec in privacy.specs()}


def test_the_means_fit_the_fields_that_the_schemas_mark() -> None:
    for spec in privacy.specs():
        kinds = {field.rpartition("(")[2].rstrip(")") for field in privacy.personal(spec)}
        match MEANS[spec.name]:
            case Means.NONE | Means.HASH:
                assert not kinds, spec.name
            case Means.ACTOR:
                assert kinds == {"actor"}, spec.name
            case Means.TIME:
                assert kinds or not spec.schema, spec.name
                assert spec.cleanup is Cleanup.TIME, f"{spec.name}: what is kept for ever does not go with time"
            case Means.SEALED:
                assert any(field.startswith("body ") for field in privacy.personal(spec)), spec.name
            case Means.ROW:
                assert any(field.startswith("body ") for field in privacy.personal(spec)), spec.name
                assert int(spec.further["max.compaction.lag.ms"]) <= 86_400_000, "older copies go within a day"


def test_what_is_kept_by_its_last_value_is_sealed_erased_hashed_or_names_who_acted() -> None:
    for spec in privacy.specs():
        if spec.cleanup is Cleanup.COMPACT:
            assert MEANS[spec.name] is not Means.TIME, spec.name


def test_no_traces_are_emitted_as_the_page_says() -> None:
    root = PAGE.parents[1]
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (root / "requirements.lock").read_text("utf-8"), re.MULTILINE))
    assert {name for name in pinned if name.startswith("opentelemetry")} <= {"opentelemetry-api"}
    ours = (path for part in ("app", "agents", "tables", "channels", "schemas") for path in (root / part).rglob("*.py"))
    traced = [path for path in ours if "opentelemetry" in path.read_text("utf-8")]
    assert not traced, "then make canary must look at the spans, and docs/privacy.md must say what is in them"
