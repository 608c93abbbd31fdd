"""What the settings of several providers have in common. Pure; nothing here quotes a secret."""

from urllib.parse import urlsplit

from channels.smtp_settings import is_loopback


def pairs(text: str, between: str) -> list[tuple[str, str]]:
    """Return the parts on both sides of the last ``between`` of each entry of a list with commas."""
    entries = (entry.strip().rpartition(between) for entry in text.split(",") if entry.strip())
    return [(left.strip(), right.strip()) for left, _, right in entries]


def base_url_fault(url: str, example: str) -> str:
    """Return what is wrong with the URL of a provider's API, empty if nothing; in clear our credentials go to this
    machine alone."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return f"use a URL such as {example}"
    if not host or parts.scheme not in ("http", "https") or parts.username or parts.query or parts.fragment:
        return f"use a URL such as {example}"
    if parts.scheme == "http" and not is_loopback(host):
        return "http would send the token in clear to another machine; use https"
    return ""
