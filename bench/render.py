"""``render``: how many messages a second a template is put into, all compiled and formats in their caches.

The template of docs/templates.md, and what the gate does with it: each message has a name and a minute of its own, the
languages of three readers take turns. Besides, a mail without a template. CPU time of one core; no broker is used.
"""

import asyncio
import time
from pathlib import Path

from agents.wording import Worded, worded
from app.template_folder import Folder
from bench.figures import Figure, median, spread
from bench.stage import BenchError, Kafka
from channels.layout import Foot
from channels.shelf import Shelf
from schemas.names import Channel, RequestKind
from schemas.records import Content, DeliveryRequest, RecipientProfile
from tables.consent import Category

TARGET = 10_000
TEMPLATES = Path(__file__).resolve().parents[1] / "docs" / "templates"
READERS = (
    RecipientProfile(locale="en-GB", zone="Europe/London"),
    RecipientProfile(locale="de-AT", zone="Europe/Vienna"),
    RecipientProfile(locale="fr", zone="Africa/Nairobi"),
)
MONDAY_MS = 1_796_000_000_000
FOOT = Foot("Praxis Dr. Weiß", "Questions? Call 01 234 56 78")


def rate(shelf: Shelf, template: str, channel: Channel, count: int) -> float:
    """Return messages a second of CPU time."""
    contents = [
        Content("", f"Visit {n}", {"name": f"Anna {n}", "place": "Praxis Dr. Weiß", "link": f"https://a.example/{n}"})
        for n in range(count)
    ]
    requests = [
        DeliveryRequest(RequestKind.DELIVER, "r", template=template, due_at=MONDAY_MS + n % 10_080 * 60_000)
        for n in range(count)
    ]
    category = Category()
    began = time.thread_time()
    for n, (request, content) in enumerate(zip(requests, contents, strict=True)):
        found = worded(shelf, request, "", content, category, channel, READERS[n % len(READERS)], FOOT)
        if not isinstance(found, Worded):
            raise BenchError(f"a message has no words: {found}")
    return count / (time.thread_time() - began)


async def run(kafka: Kafka, home: Path, *, quick: bool, takes: int) -> list[Figure]:
    """Measure."""
    return await asyncio.to_thread(measure, quick=quick, takes=takes)


def measure(*, quick: bool, takes: int) -> list[Figure]:
    """Take the figures."""
    count = 1000 if quick else 20_000
    shelf = Shelf(Folder(TEMPLATES).read()[0])
    figures = []
    for template, channel, what in (
        ("visit", Channel.SMS, "a template as a text message"),
        ("visit", Channel.PUSH, "a template as a push: title and text"),
        ("visit", Channel.EMAIL, "a template as a mail: subject, text and HTML"),
        ("", Channel.EMAIL, "a mail without a template, with its foot"),
    ):
        rate(shelf, template, channel, count)
        rates = [rate(shelf, template, channel, count) for _ in range(takes)]
        figures.append(
            Figure(
                "render",
                f"{what}, rendered from a warm cache",
                f"{median(rates):,.0f}/s ({spread(rates, ',.0f')}) a core",
                f"≥ {TARGET:,}/s",
                median(rates) >= TARGET,
                {"rates": rates},
            )
        )
    return figures
