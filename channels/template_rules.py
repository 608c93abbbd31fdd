"""What a template may do: a small closed part of jinja2, held before it is ever rendered. Pure.

It names values, formats them, chooses between texts, and goes once through a list. It calls nothing, reaches into
nothing, counts to no number and includes nothing, so that its work is bounded by its own length and its values'.
"""

import html.parser
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from babel import Locale
from jinja2 import nodes

from channels import formats

#: Longest file of a template, in characters.
MAX_SOURCE = 32_000
#: Filters of jinja2 that make no more of a value than it was, and ours (``channels/templates.py``).
PLAIN_FILTERS = frozenset(
    [
        "d",
        "default",
        "upper",
        "lower",
        "capitalize",
        "title",
        "trim",
        "length",
        "join",
        "truncate",
        "round",
        "int",
        "float",
        "abs",
    ]
)
OWN_FILTERS = frozenset(["date", "time", "datetime", "number", "percent", "money", "plural", "url", "split"])
TESTS = frozenset(["defined", "undefined", "equalto", "eq", "ne", "lt", "le", "gt", "ge", "in"])
#: What is known of the reminder itself, as ``reminder.<name>``.
BUILT_IN = frozenset(["due", "title", "text", "category", "sender"])
#: The reminders that a message is of: one, or all of a digest.
ITEMS = "items"
_LOOP = frozenset(["index", "index0", "first", "last", "length"])
#: Filters that read a value as a number or a time, for which a check has to have a sample.
SAMPLES = {
    "date": "2026-09-30T22:45:00",
    "time": "2026-09-30T22:45:00",
    "datetime": "2026-09-30T22:45:00",
    "number": "12345.5",
    "money": "12345.5",
    "percent": "0.255",
    "plural": "112",
    "int": "112",
    "float": "12345.5",
    "abs": "12345.5",
    "round": "12345.5",
    "url": "https://example.org/a/rather/long/path?with=a&query=0123456789",
}
_GUARDS = frozenset({"d", "default"})
_RESERVED = frozenset(["self", "super", "caller", "varargs", "kwargs", "loop", "reminder", "data"])
_MAX_CHAIN = 8
_ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.NSRef,
    nodes.Const,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Filter,
    nodes.Test,
    nodes.If,
    nodes.For,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Concat,
    nodes.Add,
    nodes.Sub,
    nodes.Neg,
    nodes.Keyword,
    nodes.Tuple,
    nodes.List,
)


@dataclass(frozen=True, slots=True)
class TemplateFault:
    """What is wrong with a template: in which of its files, in which line (0: the whole), and what to do."""

    file: str
    line: int
    remedy: str

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.file}{f':{self.line}' if self.line else ''}: {self.remedy}"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a file needs of a reminder: values it cannot do without, those that it may have, and samples by value.
    ``several``: it goes through ``items``, so that it can be of several reminders at once."""

    wants: frozenset[str]
    optional: frozenset[str]
    samples: dict[str, str]
    several: bool = False


def look(tree: nodes.Template, file: str, locale: Locale, *, html: bool) -> tuple[list[TemplateFault], Needs]:
    """Return the faults of a parsed file, and what it needs."""
    faults: list[TemplateFault] = []
    _walk(tree, faults, file, locale, _items(tree), looping=False)
    if html:
        faults += [TemplateFault(file, 0, remedy) for remedy in _markup(tree)]
    return faults, _needs(tree)


def _items(tree: nodes.Template) -> frozenset[str]:
    """Return the names that stand for one of the reminders in the loops that go through them."""
    loops = (loop for loop in tree.find_all(nodes.For) if _is_name(loop.iter, ITEMS))
    return frozenset(loop.target.name for loop in loops if isinstance(loop.target, nodes.Name))


def _walk(
    node: nodes.Node,
    faults: list[TemplateFault],
    file: str,
    locale: Locale,
    items: frozenset[str],
    *,
    looping: bool,
    within: bool = False,
) -> None:
    def fault(remedy: str) -> None:
        faults.append(TemplateFault(file, node.lineno, remedy))

    match node:
        case nodes.For():
            _loop(node, fault, again=looping)
            looping = True
        case nodes.Call():
            fault("nothing may be called; use a filter")
            return
        case nodes.Filter():
            _filter(node, fault, locale)
        case nodes.Test() if node.name not in TESTS:
            fault(f"no test {node.name}; use {', '.join(sorted(TESTS))}")
        case nodes.Getattr():
            _attribute(node, fault, items)
        case nodes.Getitem():
            _brackets(node, fault, items)
        case nodes.Name() if node.name == ITEMS and items and node.ctx == "load" and not within:
            fault("items are the reminders of the message here: go through them, or count them by |length")
        case nodes.Name() if node.name in items and node.ctx == "load":
            fault(f"{node.name} is a whole reminder; name a part of it, such as {node.name}.title")
        case nodes.Name() if node.name.startswith("_") or node.name in _RESERVED:
            fault(f"{node.name} is no value; name one of the reminder's")
        case nodes.Const() if isinstance(node.value, int | float) and abs(node.value) > 1_000_000:
            fault("use numbers up to a million")
        case _:
            pass
    if not isinstance(node, _ALLOWED):
        fault(f"a template may not hold {type(node).__name__.lower()}; see docs/templates.md")
        return
    for child in node.iter_child_nodes():
        # What is known of the reminder is named with its parts: looked at above.
        if not (isinstance(node, nodes.Getattr | nodes.Getitem) and isinstance(child, nodes.Name)):
            counted = isinstance(node, nodes.Filter) and node.name == "length" and child is node.node
            gone_through = isinstance(node, nodes.For) and child is node.iter
            _walk(child, faults, file, locale, items, looping=looping, within=counted or gone_through)


def _loop(node: nodes.For, fault: Callable[[str], None], *, again: bool) -> None:
    if again:
        fault("a loop may not stand in another; leave one out")
    if _is_name(node.iter, ITEMS):
        if not isinstance(node.target, nodes.Name):
            fault("go through the reminders one by one: {% for item in items %}")
    elif not (isinstance(node.iter, nodes.Filter) and node.iter.name == "split"):
        fault("a loop goes through items, or a split value: {% for paper in papers|split(';') %}")
    if node.recursive:
        fault("a loop may not call itself; leave out recursive")


def _brackets(node: nodes.Getitem, fault: Callable[[str], None], items: frozenset[str]) -> None:
    if not (
        (_is_name(node.node, "data") or _is_item(node.node, items))
        and isinstance(node.arg, nodes.Const)
        and isinstance(node.arg.value, str)
    ):
        fault('use values by their names; only data["a name"] takes brackets')


def _attribute(node: nodes.Getattr, fault: Callable[[str], None], items: frozenset[str]) -> None:
    for name, known in (("reminder", BUILT_IN), ("loop", _LOOP)):
        if _is_name(node.node, name):
            if node.attr not in known:
                fault(f"no {name}.{node.attr}; use {', '.join(sorted(known))}")
            return
    if _is_name(node.node, "data"):
        if node.attr.startswith("_") or hasattr(dict, node.attr):
            fault(f'write data["{node.attr}"]')
        return
    if _is_item(node.node, items):
        if node.attr.startswith("_"):
            fault(f"a reminder has no part {node.attr}; name one of its values")
        return
    fault(f"a value has no parts such as .{node.attr}; use a filter")


def _filter(node: nodes.Filter, fault: Callable[[str], None], locale: Locale) -> None:
    if node.name not in PLAIN_FILTERS | OWN_FILTERS:
        fault(f"no filter {node.name}; use {', '.join(sorted(PLAIN_FILTERS | OWN_FILTERS))}")
        return
    if node.node is None:
        fault("a filter stands behind a value: {{ name|upper }}")
        return
    depth = 1
    inner: nodes.Node = node.node
    while isinstance(inner, nodes.Filter) and (next_one := inner.node) is not None:
        depth, inner = depth + 1, next_one
    if depth > _MAX_CHAIN:
        fault(f"at most {_MAX_CHAIN} filters behind one value")
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        fault("give a filter its arguments one by one")
    match node.name:
        case "plural":
            given = {str(kwarg.key) for kwarg in node.kwargs}
            lacking = sorted((formats.plural_forms(locale) | {"other"}) - given)
            if node.args:
                fault('name the forms: |plural(one="# pill", other="# pills")')
            elif lacking:
                fault(f"plural in {formats.tag(locale)} needs {', '.join(lacking)}, too")
            elif unknown := sorted(given - {"zero", "one", "two", "few", "many", "other"}):
                fault(f"no plural form {', '.join(unknown)}; use zero, one, two, few, many, other")
        case "date" | "time" | "datetime":
            style = node.args[0] if node.args else next((kwarg.value for kwarg in node.kwargs), None)
            if style is not None and not (isinstance(style, nodes.Const) and style.value in formats.STYLES):
                fault(f'use a style of {", ".join(formats.STYLES)}: |{node.name}("short")')
        case "money":
            code = node.args[0] if node.args else next((kwarg.value for kwarg in node.kwargs), None)
            if code is None:
                fault('say which money: |money("EUR")')
        case _:
            pass


def _is_name(node: nodes.Node, name: str) -> bool:
    return isinstance(node, nodes.Name) and node.name == name


def _is_item(node: nodes.Node, items: frozenset[str]) -> bool:
    return isinstance(node, nodes.Name) and node.name in items


# -- needs -------------------------------------------------------------------------------------------------------------


def _needs(tree: nodes.Template) -> Needs:
    optional: set[str] = set()
    samples: dict[str, str] = {}
    items = _items(tree)
    bound = {n.name for n in tree.find_all(nodes.Name) if n.ctx == "store"} | {"loop", "reminder", "data"}
    bound |= {ITEMS} if items else set()
    for node in tree.find_all((nodes.Filter, nodes.Test)):
        found = {name for _, name in _values(node.node, bound, items)}
        if node.name in (_GUARDS if isinstance(node, nodes.Filter) else ("defined", "undefined")):
            optional |= found
        if isinstance(node, nodes.Filter) and node.name in SAMPLES:
            samples |= dict.fromkeys(found, SAMPLES[node.name])
    # What is looked at before it is used is no condition, wherever else it is used.
    wants = {name for _, name in _values(tree, bound, items)} - optional
    return Needs(frozenset(wants), frozenset(optional), samples, bool(items))


def _values(node: nodes.Node, bound: set[str], items: frozenset[str]) -> Iterator[tuple[nodes.Node, str]]:
    """Yield the values of a reminder that are named in or below a node."""
    match node:
        case nodes.Name() if node.ctx == "load" and node.name not in bound:
            yield node, node.name
        case nodes.Getattr() if _is_name(node.node, "data"):
            yield node, node.attr
        case nodes.Getitem() if _is_name(node.node, "data") and isinstance(node.arg, nodes.Const):
            yield node, str(node.arg.value)
        case nodes.Getattr() if _is_item(node.node, items):
            # What a reminder has itself is no value of its data.
            if node.attr not in BUILT_IN:
                yield node, node.attr
        case nodes.Getitem() if _is_item(node.node, items) and isinstance(node.arg, nodes.Const):
            if node.arg.value not in BUILT_IN:
                yield node, str(node.arg.value)
        case _:
            for child in node.iter_child_nodes():
                yield from _values(child, bound, items)


# -- HTML --------------------------------------------------------------------------------------------------------------

_LINKS = frozenset({"href", "src", "action", "background", "poster", "cite", "formaction", "xlink:href"})
_FORBIDDEN = frozenset(
    ["script", "iframe", "object", "embed", "form", "input", "button", "link", "base", "svg", "math", "template"]
)
_MARK = re.compile("\ue000([sl])\ue001")


def _markup(tree: nodes.Template) -> Iterator[str]:
    """Yield what is wrong with values in places of an HTML file where escaping does not make them harmless."""
    parser = _Places()
    flat = "".join(_flat(tree))
    if re.search("[<&]/?\ue000", flat):
        yield "no value may stand right behind < or &; write &lt; or &amp; for the sign itself"
    parser.feed(flat)
    yield from dict.fromkeys(parser.remedies)
    if "<" in parser.rawdata:
        yield "a tag does not end; write it as <p class=…>, with its >"


def _flat(node: nodes.Node) -> Iterator[str]:
    match node:
        case nodes.TemplateData():
            yield node.data
        case nodes.Output():
            for shown in node.nodes:
                if isinstance(shown, nodes.TemplateData):
                    yield shown.data
                else:
                    linked = isinstance(shown, nodes.Filter) and shown.name == "url"
                    yield "\ue000l\ue001" if linked else "\ue000s\ue001"
        case _:
            for child in node.iter_child_nodes():
                yield from _flat(child)


class _Places(html.parser.HTMLParser):
    """Looks where values stand in markup."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.remedies: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at a tag and its attributes."""
        raw = self.get_starttag_text() or ""
        if _MARK.search(tag) or any(_MARK.search(name) for name, _ in attrs):
            self.remedies.append("a value may stand in text and in quoted attributes only")
        if re.search("=\\s*[^\\s\"'>]*\ue000", re.sub("\"[^\"]*\"|'[^']*'", '""', raw)):
            self.remedies.append('put quotes around an attribute that holds a value: title="{{ name }}"')
        if tag in _FORBIDDEN:
            self.remedies.append(f"a mail may not hold <{tag}>; leave it out")
        for name, value in attrs:
            marks = _MARK.findall(value or "")
            if name.startswith("on"):
                self.remedies.append(f"a mail may not hold {name}=; leave it out")
            elif (
                name in _LINKS
                and marks
                and not (marks == ["l"] and _MARK.match(value or ""))
                and not (re.match(r"(?:https://[^\ue000/?#]+[/?#]|mailto:|tel:)", value or ""))
            ):
                self.remedies.append(f'let a value that is an address go through url: {name}="{{{{ link|url }}}}"')
            elif name in ("style", "srcset", "http-equiv") and marks:
                self.remedies.append(f"no value may stand in {name}=")

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        """Look at text: inside of a stylesheet it is none."""
        if self.cdata_elem is not None and _MARK.search(data):
            self.remedies.append(f"no value may stand in <{self.cdata_elem}>")

    def handle_comment(self, data: str) -> None:
        """Look at a comment."""
        if _MARK.search(data):
            self.remedies.append("no value may stand in a comment")
