"""The templates that a process knows: the newest of each version, and those before it, for what was sent with them."""

from collections import OrderedDict
from collections.abc import Iterable

from channels.templates import Version, wanted

#: Versions kept besides those that are current; the oldest go first.
KEPT = 1000


class Shelf:
    """Finds a template by what an event asks for, or by what is on record."""

    def __init__(self, versions: Iterable[Version] = ()) -> None:
        self._current: dict[tuple[str, int], Version] = {}
        self._newest: dict[str, Version] = {}
        self._before: OrderedDict[str, Version] = OrderedDict()
        self.replace(versions)

    def replace(self, versions: Iterable[Version]) -> None:
        """Take these as the current ones. Those that were stay known by their names on record."""
        current = {(version.name, version.version): version for version in versions}
        newest: dict[str, Version] = {}
        for (name, number), version in current.items():
            if name not in newest or number > newest[name].version:
                newest[name] = version
        self.keep(self._current.values())
        self._current, self._newest = current, newest

    def keep(self, versions: Iterable[Version]) -> None:
        """Know these by their names on record, current or not."""
        for version in versions:
            self._before[version.ref] = version
            self._before.move_to_end(version.ref)
        while len(self._before) > KEPT:
            self._before.popitem(last=False)

    def all(self) -> list[Version]:
        """Return the current versions, by name and number."""
        return [self._current[key] for key in sorted(self._current)]

    def find(self, asked: str) -> Version | None:
        """Return the version that an event asks for, as ``pills`` (the newest) or ``pills@3``."""
        name, number = wanted(asked) or ("", 0)
        return self._current.get((name, number)) if number else self._newest.get(name)

    def known(self, ref: str) -> Version | None:
        """Return the version with this name on record, current or not."""
        name, _, rest = ref.partition("@")
        number = rest.partition(".")[0]
        current = self._current.get((name, int(number))) if number.isdecimal() else None
        return current if current is not None and current.ref == ref else self._before.get(ref)
