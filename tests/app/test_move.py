"""What a move takes along, and where rows of the recipients table go; on a broker, tests/kafka/test_operations.py."""

import pytest
from click.testing import CliRunner

from app.cli.root import main
from app.move import copies, inputs, owner_key
from app.topics import TOPICS, TopicNames, full_name
from schemas import ids

#: Copied in part, or left to be read where it is.
OTHERWISE = {"reminders.control", "notifications.dlq", "notifications.status"}
ODD = "a/b:u:c%2F ü"


def test_every_topic_is_taken_along_or_left_on_purpose() -> None:
    old, new = TopicNames("old"), TopicNames("new")
    core, delivery = inputs(old)
    taken = {*core, *delivery, *(copy.source for copy in copies(old, new))}
    assert taken | {full_name("old", name) for name in OTHERWISE} == {full_name("old", spec.name) for spec in TOPICS}
    assert all(copy.target.removeprefix("new.") == copy.source.removeprefix("old.") for copy in copies(old, new))


@pytest.mark.parametrize(
    ("key", "owner"),
    [
        (ids.profile_key(ODD), ODD),
        (ids.sends_key(ODD), ODD),
        (ids.link_key(ODD, "clinic/1"), ODD),
        (ids.delivery_key(ODD, "clinic/1", ids.delivery_id("clinic/1", "@1/PT0S", 0, 0)), ODD),
        (ids.delivery_key("", ODD, ids.delivery_id(ODD, "@1/PT0S", 0, 0)), ODD),
    ],
)
def test_a_row_goes_where_its_owner_s_records_go(key: bytes, owner: str) -> None:
    assert owner_key(key) == owner.encode()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--to", "old"), "is the namespace that is to be moved"),
        (("--to", "new", "--anew", "--late"), "--late adds to what was copied"),
        (("--to", "no name"), "REMINDERS_NAMESPACE='no name'"),
    ],
)
def test_what_cannot_be_moved(words: tuple[str, ...], says: str) -> None:
    env = {"REMINDERS_NAMESPACE": "old", "KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    done = CliRunner().invoke(main, ("move", *words, "--partitions", "4"), env=env)
    assert (done.exit_code, says in done.output) == (2, True), done.output
