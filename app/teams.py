"""Teams that have an intake topic of their own, and the ids that each may touch. Pure."""

import re
from dataclasses import dataclass

#: What the topic of a team is called, before its name.
TOPIC = "intake."
#: Longest prefix, in bytes of UTF-8: some of an id must be left for the team.
MAX_PREFIX_BYTES = 100
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}\Z")


@dataclass(frozen=True, slots=True)
class Team:
    """One team: ``intake.<name>`` takes events of reminders whose id begins with ``prefix``, and no others."""

    name: str
    prefix: str

    @property
    def topic(self) -> str:
        """Return the name of its topic, without the namespace."""
        return TOPIC + self.name


def named(name: str) -> bool:
    """Return whether a team may be called so: its name becomes part of a topic's."""
    return _NAME.match(name) is not None


def parse(text: str) -> tuple[Team, ...]:
    """Return the teams that ``clinic:clinic-,billing:bill-`` names. Raises ValueError with one line."""
    teams: list[Team] = []
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        name, colon, prefix = part.partition(":")
        if not named(name):
            raise ValueError(
                f"{name!r} is no name of a team; use up to 50 of a-z, 0-9, _ and -, such as clinic:clinic-"
            )
        if not colon or not prefix:
            raise ValueError(f"{name}: has no prefix; add one, such as {name}:{name}-")
        if not prefix.isprintable() or len(prefix.encode()) > MAX_PREFIX_BYTES:
            raise ValueError(f"{name}: its prefix must be printable and of at most {MAX_PREFIX_BYTES} bytes")
        teams.append(Team(name, prefix))
    for i, team in enumerate(teams):
        for other in teams[:i] + teams[i + 1 :]:
            if team.name == other.name:
                raise ValueError(f"{team.name}: is named twice; name it once")
            if other.prefix.startswith(team.prefix):
                raise ValueError(
                    f"{team.name}: its prefix {team.prefix!r} takes in {other.prefix!r} of {other.name}; "
                    "choose prefixes of which none begins with another"
                )
    return tuple(teams)
