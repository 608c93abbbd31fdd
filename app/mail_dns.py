"""What the DNS says of our mails: whether receivers may believe that they are ours (SPF, DKIM, DMARC).

The rules are pure; ``looked_up`` asks. Whether SPF names our mail server is not judged: only receivers see from where
it sends.
"""

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import dns.asyncresolver
import dns.exception
import dns.resolver

from channels import dkim

#: How long one question may take, over all servers, in seconds.
LIMIT_S = 5.0
#: Most labels of a domain above which a DMARC record is looked for (as RFC 7489 §6.6.3 does with a list of suffixes).
MOST_LABELS = 8
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Sender:
    """Whom mails say that they are from. ``envelope``: the domain of the envelope's sender; ``signer``: None where this
    service signs nothing."""

    domain: str
    envelope: str
    signer: dkim.Signer | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """One finding. ``good`` None: nothing can be said. ``wrong``: receivers will refuse mails for it."""

    text: str
    good: bool | None = True
    wrong: bool = False


class Unasked(Exception):  # noqa: N818 - an answer more than an error
    """The DNS gave no answer; says why."""


#: Returns the TXT records of a name, none where there is no such name. Raises Unasked.
Ask = Callable[[str], Awaitable[Sequence[str]]]


async def judged(sender: Sender, ask: Ask) -> list[Said]:
    """Return the findings on SPF, DKIM and DMARC, in this order."""
    own = sender.signer
    name = f"{own.selector}._domainkey.{own.domain}" if own is not None else ""
    found = await asyncio.gather(
        _texts(ask, sender.envelope), _texts(ask, name) if name else _none(), _policy(ask, sender.domain)
    )
    spf_texts, dkim_texts, policy = found
    return [spf(sender, spf_texts), signature(sender, dkim_texts), dmarc(sender, policy)]


def spf(sender: Sender, texts: Sequence[str] | Unasked) -> Said:
    """Judge the record that says who may send for the envelope's domain (RFC 7208)."""
    where = f"TXT {sender.envelope}"
    if isinstance(texts, Unasked):
        return Said(f"SPF: {texts}; look up {where}", None)
    records = [text for text in texts if text.lower() == "v=spf1" or text.lower().startswith("v=spf1 ")]
    if not records:
        return Said(f"SPF: no record; publish at {where}: v=spf1, your mail server, -all", good=False)
    if len(records) > 1:
        return Said(f"SPF: {len(records)} records at {where}, so receivers use none; leave one", good=False, wrong=True)
    if re.search(r"(?:^|\s)\+?all(?:\s|$)", records[0].lower()):
        return Said(f"SPF: {where} lets everybody send as you (+all); end it with -all", good=False)
    return Said(f"SPF: {sender.envelope} has a record; it must name the mail server")


def signature(sender: Sender, texts: Sequence[str] | Unasked) -> Said:
    """Judge the record of the key that mails are signed with (RFC 6376 §3.6)."""
    own = sender.signer
    if own is None:
        remedy = f"your mail server must; look up TXT SELECTOR._domainkey.{sender.domain}"
        return Said(f"DKIM: not signed here (SMTP_DKIM_KEY_FILE); {remedy}", None)
    where = f"TXT {own.selector}._domainkey.{own.domain}"
    if isinstance(texts, Unasked):
        return Said(f"DKIM: {texts}; look up {where}", None)
    publish = f"publish at {where}: {dkim.record(own.key)}"
    keys = [tags["p"] for tags in map(tagged, texts) if "p" in tags and tags.get("v", "DKIM1") == "DKIM1"]
    if not keys:
        return Said(f"DKIM: no key; {publish}", good=False, wrong=True)
    if keys != [dkim.public_part(own.key)]:
        what = "the key is withdrawn" if keys == [""] else "another key, or several"
        return Said(f"DKIM: {what}; {publish}", good=False, wrong=True)
    return Said(f"DKIM: {own.selector}._domainkey.{own.domain} has our key")


def dmarc(sender: Sender, found: tuple[str, Sequence[str]] | Unasked) -> Said:
    """Judge what the domain that readers see asks of receivers, and whether our mails fit (RFC 7489)."""
    where = f"TXT _dmarc.{sender.domain}"
    if isinstance(found, Unasked):
        return Said(f"DMARC: {found}; look up {where}", None)
    at, records = found
    if not records:
        return Said(f"DMARC: no record; publish at {where}: v=DMARC1; p=none; rua=mailto:YOU", good=False)
    if len(records) > 1:
        return Said(f"DMARC: {len(records)} records at TXT {at}, so receivers use none; leave one", good=False)
    tags = tagged(records[0])
    policy = tags.get("p", "").lower()
    if policy not in ("none", "quarantine", "reject"):
        return Said(f"DMARC: TXT {at} has no policy; add p=none, p=quarantine or p=reject", good=False)
    own = sender.signer
    ways = [
        way
        for way, domain, mode in (
            ("DKIM", own.domain if own is not None else "", tags.get("adkim", "r")),
            ("SPF", sender.envelope, tags.get("aspf", "r")),
        )
        if domain and aligned(domain, sender.domain, strict=mode.lower() == "s")
    ]
    if not ways:
        remedy = f"sign for {sender.domain}, or take a bounce domain below it"
        return Said(f"DMARC: p={policy}, and neither SPF nor DKIM is of {sender.domain}; {remedy}", False, wrong=True)
    return Said(f"DMARC: p={policy} at {at}, met by {' and '.join(ways)}")


def aligned(domain: str, shown: str, *, strict: bool) -> bool:
    """Return whether a domain that vouches for a mail fits the one that readers see. One of them is to be the other's
    parent: without the list of public suffixes, two children of one parent count as strangers."""
    a, b = domain.lower(), shown.lower()
    return a == b or (not strict and (a.endswith(f".{b}") or b.endswith(f".{a}")))


def tagged(text: str) -> dict[str, str]:
    """Return the tags of a record such as ``v=DKIM1; p=…``, without the spaces in their values."""
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip().lower(): _SPACES.sub("", value) for name, _, value in pairs if name.strip()}


def _above(domain: str) -> Iterator[str]:
    labels = domain.split(".")[-MOST_LABELS:]
    yield domain
    for at in range(1, len(labels) - 1):
        yield ".".join(labels[at:])


async def _policy(ask: Ask, domain: str) -> tuple[str, Sequence[str]] | Unasked:
    for above in _above(domain):
        texts = await _texts(ask, f"_dmarc.{above}")
        if isinstance(texts, Unasked):
            return texts
        if records := [text for text in texts if tagged(text).get("v", "").upper() == "DMARC1"]:
            return f"_dmarc.{above}", records
    return "", ()


async def _texts(ask: Ask, name: str) -> Sequence[str] | Unasked:
    try:
        return await ask(name)
    except Unasked as why:
        return why


async def _none() -> Sequence[str]:
    return ()


def asker(server: str = "") -> Ask:
    """Return what asks the DNS. ``server``: ``address`` or ``address:port`` to ask instead of the system's own. Raises
    ValueError for what is no address."""
    try:
        resolver = dns.asyncresolver.Resolver(configure=not server)
    except dns.resolver.NoResolverConfiguration:
        resolver = dns.asyncresolver.Resolver(configure=False)
    if server:
        host, colon, port = server.rpartition(":") if re.search(r"\]:\d+$|^[^:]+:\d+$", server) else (server, "", "")
        resolver.nameservers = [str(ipaddress.ip_address(host.strip("[]")))]
        resolver.port = int(port) if colon else 53

    async def ask(name: str) -> Sequence[str]:
        try:
            found = await resolver.resolve(name, "TXT", lifetime=LIMIT_S, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return ()
        except (dns.exception.DNSException, OSError) as exc:
            raise Unasked(f"the DNS does not answer ({type(exc).__name__})") from None
        # A record of several strings is one text (RFC 7208 §3.3, RFC 6376 §3.6.2.2).
        return [b"".join(record.strings).decode("utf-8", "replace") for record in found]

    return ask
