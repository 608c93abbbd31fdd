"""A page as a screen reader, a keyboard and a careful browser see it."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

VOID = frozenset({"meta", "link", "input", "br", "hr", "img"})
FIELDS = frozenset({"input", "select", "textarea"})


@dataclass
class Form:
    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class Page(HTMLParser):
    """What is on a page. ``faults``: what would be in somebody's way."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.headings: list[tuple[int, str]] = []
        self.links: list[str] = []
        self.forms: list[Form] = []
        self.ids: list[str] = []
        self.text = ""
        self.title = ""
        self._open: list[str] = []
        self._labels: set[str] = set()
        self._fields: list[str] = []
        self._pointed: list[str] = []
        self._words: list[str] = []
        self._named: list[bool] = []
        self._language = self._viewport = False
        self.feed(text)
        self.close()
        self._judge()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if tag not in VOID:
            self._open.append(tag)
        if "id" in said:
            self.ids.append(said["id"])
        if tag == "script" or "style" in said or any(name.startswith("on") for name in said):
            self.faults.append(f"<{tag}> runs or styles something in the page")
        for name in ("href", "src", "action"):
            if said.get(name, "/").split("#")[0] and not said.get(name, "/").startswith(("/", "#")):
                self.faults.append(f"<{tag} {name}={said[name]}> leads elsewhere")
        if int(said.get("tabindex", "0")) > 0:
            self.faults.append(f"<{tag}> is out of the order of the keyboard")
        self._pointed += said.get("aria-labelledby", "").split() + said.get("aria-describedby", "").split()
        match tag:
            case "html":
                self._language = bool(said.get("lang"))
            case "meta":
                self._viewport |= said.get("name") == "viewport" and "width=device-width" in said.get("content", "")
            case "a":
                self.links.append(said.get("href", ""))
                self._words.append("")
            case "button" | "h1" | "h2" | "h3" | "title":
                self._words.append("")
                if tag == "button" and said.get("type") != "submit":
                    self.faults.append("a button that is no submit does nothing without a script")
                if tag == "button":
                    self.forms[-1].buttons.append((said.get("name", ""), said.get("value", "")))
            case "label":
                self._labels.add(said.get("for", ""))
            case "form":
                self.forms.append(Form(said.get("method", "get"), said.get("action", "")))
            case "th":
                if said.get("scope") not in ("col", "row"):
                    self.faults.append("a heading of a table without scope")
            case "td":
                if not said.get("data-label"):
                    self.faults.append("a cell that has no name on a phone")
        if tag in FIELDS:
            self._field(tag, said)

    def _field(self, tag: str, said: dict[str, str]) -> None:
        if said.get("type") != "hidden":
            self._fields.append(said.get("id", ""))
        if self.forms and said.get("name"):
            self.forms[-1].fields[said["name"]] = said.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.faults.append(f"</{tag}> closes nothing")
            return
        self._open.pop()
        if tag in ("a", "button", "h1", "h2", "h3", "title"):
            words = " ".join(self._words.pop().split())
            if not words:
                self.faults.append(f"an empty <{tag}>")
            if tag[0] == "h":
                self.headings.append((int(tag[1]), words))
            if tag == "title":
                self.title = words

    def handle_data(self, data: str) -> None:
        self.text += data
        self._words = [words + data for words in self._words]

    def _judge(self) -> None:
        levels = [level for level, _ in self.headings]
        if levels[:1] != [1] or levels.count(1) != 1:
            self.faults.append(f"headings begin with one h1, not {levels}")
        if any(later > before + 1 for before, later in pairwise(levels)):
            self.faults.append(f"a level of headings is left out: {levels}")
        if len(set(self.ids)) != len(self.ids):
            self.faults.append("an id is there twice")
        if missing := {name for name in self._fields if name not in self._labels}:
            self.faults.append(f"fields without a label: {missing}")
        if missing := set(self._pointed) - set(self.ids):
            self.faults.append(f"nothing is called {missing}")
        if missing := {to[1:] for to in self.links if to.startswith("#")} - set(self.ids):
            self.faults.append(f"links to nothing: {missing}")
        if self.links[:1] != ["#main"]:
            self.faults.append("the first stop of the keyboard does not lead to the content")
        if not (self._language and self._viewport and self.title):
            self.faults.append("no language, no viewport or no title")
        if self._open:
            self.faults.append(f"never closed: {self._open}")

    def form(self, action: str, **fields: str) -> Form:
        """Return the one form that goes there and has these values."""
        [found] = [f for f in self.forms if f.action == action and fields.items() <= f.fields.items()]
        return found
