"""Pages behind the links in messages: shown to whoever has the link, without a login."""
