"""What providers tell after a call, in one form whoever they are. Pure."""

from dataclasses import dataclass

from schemas.names import Channel, OutcomeKind


@dataclass(frozen=True, slots=True)
class News:
    """What became of a message or a call, as an outcome."""

    outcome: OutcomeKind
    reason: str
    code: str = ""
    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """News with the sealed name of the attempt that they are about."""

    reference: str
    news: News


@dataclass(frozen=True, slots=True)
class Heard:
    """What somebody wrote. ``name``: the provider's id of the message, by which a copy is known. ``understood``: the
    keyword that the provider has understood and answered already, empty if it leaves that to us. ``at``: when it was
    written, ms UTC; 0: now."""

    provider: str
    channel: Channel
    number: str
    text: str
    name: str = ""
    understood: str = ""
    at: int = 0
