"""The topic ``templates`` from outside of a worker: what is in it, and how something gets there."""

from agents.templates import current, version_of
from app.cli import audit
from app.config import Settings
from app.topics import TopicNames
from channels.template_rules import TemplateFault
from channels.templates import Source, Version
from schemas.codec import Undecodable, decode
from schemas.records import TemplateRecord

#: Most of a template's files together, in bytes: a record of the topic.
MAX_BYTES = 1024 * 1024


def record_of(source: Source, at: int, actor: str) -> TemplateRecord:
    """Return a template as the topic has it; its key is ``source.ref``. Raises ValueError where it is too large."""
    size = sum(len(path.encode()) + len(text.encode()) for path, text in source.files.items())
    if size > MAX_BYTES:
        raise ValueError(f"{source.name}@{source.version} has {size} bytes; a template has at most {MAX_BYTES}")
    return TemplateRecord(source.name, source.version, at, dict(source.files), actor)


async def everything(settings: Settings) -> tuple[dict[str, tuple[int, Version]], dict[str, list[TemplateFault]]]:
    """Return all that was published, by name on record, and what cannot be used. Raises Failure where the brokers do
    not answer."""
    topic = TopicNames.of(settings).templates
    found: dict[str, tuple[int, Version]] = {}
    faults: dict[str, list[TemplateFault]] = {}
    async with audit.reader(settings, topic) as consumer:
        async for record in audit.records(consumer, await audit.partitions(consumer, topic)):
            ref = (record.key or b"").decode("utf-8", "replace")
            found.pop(ref, None)
            faults.pop(ref, None)
            if record.value is None:
                continue
            faults[ref] = [TemplateFault(ref, 0, "this release cannot use it; publish it again")]
            try:
                said = decode(TemplateRecord, record.value)
            except Undecodable:
                continue
            if (version := version_of(said)) is not None:
                found[ref] = (said.at, version)
                del faults[ref]
    return found, faults


async def read(settings: Settings) -> tuple[list[Version], dict[str, list[TemplateFault]]]:
    """Return the current versions of the topic, and what cannot be used."""
    found, faults = await everything(settings)
    return current(found), faults
