"""Templates: the words of a reminder by channel and locale. Pure; no file, no clock.

A template is a set of files: one for each part of a message (``FILES``), the same again in a folder for each locale,
and ``template.toml``, all optional but its text. A ``Version`` is such a set, compiled: what it says for a channel,
a reader and a reminder's values is whole, or nothing.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, NoReturn

from babel import Locale
from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from channels import formats, render
from channels.formats import NotOneError
from channels.template_rules import ITEMS, MAX_SOURCE, PLAIN_FILTERS, TESTS, Needs, TemplateFault, look
from channels.word_reasons import WordReason
from schemas.names import Channel

SETTINGS = "template.toml"
#: Each part's file, and what is said where it is not there.
FILES: dict[str, str] = {
    "subject": "subject.txt",
    "text": "text.txt",
    "html": "html.html",
    "sms": "sms.txt",
    "whatsapp": "whatsapp.txt",
    "voice": "voice.txt",
    "push": "push.txt",
}
PARTS = {file: part for part, file in FILES.items()}
#: The part that a channel says, first choice first.
CHOICE: dict[Channel, tuple[str, ...]] = {
    Channel.EMAIL: ("text",),
    Channel.SMS: ("sms", "text"),
    Channel.WHATSAPP: ("whatsapp", "text"),
    Channel.VOICE: ("voice", "text"),
    Channel.PUSH: ("push", "sms", "text"),
    Channel.WEBHOOK: ("text",),
}
#: Channels whose message has a title of its own.
TITLED = frozenset({Channel.EMAIL, Channel.PUSH, Channel.WEBHOOK})
#: Longest output of one part, in characters.
MAX_OUTPUT = 100_000
#: Most items that a loop goes through.
MAX_ITEMS = 100
#: How long a value may be where template.toml does not say, for the worst case of a check.
USUAL_MOST = 60

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_WANTED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})(?:@([1-9][0-9]{0,8}))?\Z")
_LINK = re.compile(r"(?:https?://[^\s\"'<>`\\]+|mailto:[^\s\"'<>`\\]+|tel:[+0-9(). -]+)\Z")
_NARROW = str.maketrans({"\u202f": " ", "\u00a0": " "})
_BIDI = dict.fromkeys(map(ord, "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"))


class UnsaidError(Exception):
    """A message cannot be put into words. ``what`` names the variable, or the kind of value that was wanted."""

    def __init__(self, reason: WordReason, what: str) -> None:
        super().__init__(f"{reason}: {what}")
        self.reason = reason
        self.what = what


@dataclass(frozen=True, slots=True)
class About:
    """What a template may say of the reminder itself, and for whom. ``due``: an instant, None: not told."""

    locale: str = ""
    zone: str = ""
    due: datetime | None = None
    title: str = ""
    text: str = ""
    category: str = ""
    sender: str = ""

    def known(self) -> dict[str, Any]:
        """Return what there is of it; the rest is missing, as a value is."""
        made = {"title": self.title, "text": self.text, "category": self.category, "sender": self.sender}
        known: dict[str, Any] = {name: inert(value) for name, value in made.items() if value}
        if self.due is not None:
            known["due"] = self.due
        return known


class _Item:
    """One of the reminders that a message is of: its values by name, before them what it has itself."""

    __slots__ = ("_known",)

    def __init__(self, data: Mapping[str, str | None], about: About) -> None:
        self._known = {name: inert(value) for name, value in data.items() if value is not None} | about.known()

    def __getitem__(self, name: str) -> Any:
        return self._known[name]


@dataclass(frozen=True, slots=True)
class Said:
    """What a message says on its channel. ``html``: of mails whose template has one."""

    title: str
    text: str
    html: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A template as it was written. ``files``: their text by path, such as ``de/sms.txt``."""

    name: str
    version: int
    files: Mapping[str, str]

    @property
    def ref(self) -> str:
        """The name that is on record: ``pills@3.1a2b3c4d``. The last part is of the very words, so that an edit of a
        version in place has a name of its own."""
        digest = sha256()
        for path in sorted(self.files):
            digest.update(f"{len(path)}:{path}{len(self.files[path])}:{self.files[path]}".encode("utf-8", "replace"))
        return f"{self.name}@{self.version}.{digest.hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class Tongue:
    """A template in one language. ``wants``: the values that a reminder must have, whatever its channel."""

    name: str
    locale: Locale
    parts: Mapping[str, Callable[[Context], str]]
    wants: frozenset[str]
    needs: Mapping[str, Needs] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Variable:
    """What template.toml says of a value: a sample of it, and how long it is at the most."""

    sample: str = ""
    most: int = 0


@dataclass(frozen=True, slots=True)
class Version:
    """A template that can be rendered."""

    source: Source
    ref: str
    default: str
    tongues: Mapping[str, Tongue]
    variables: Mapping[str, Variable]

    @property
    def name(self) -> str:
        """Its name."""
        return self.source.name

    @property
    def version(self) -> int:
        """Its number."""
        return self.source.version

    def tongue(self, locale: str) -> Tongue:
        """Return the language for a reader: their own, nearest first, else the template's default."""
        for name in formats.chain(locale) if locale else ():
            if name in self.tongues:
                return self.tongues[name]
        return self.tongues[self.default]

    def several(self, channel: Channel, locale: str) -> bool:
        """Return whether its words of a channel, for a reader, can be of several reminders at once."""
        tongue = self.tongue(locale)
        parts = [
            self._part(tongue, channel),
            *(["html"] if channel is Channel.EMAIL and "html" in tongue.parts else []),
        ]
        return all(tongue.needs[part].several for part in parts)

    @staticmethod
    def _part(tongue: Tongue, channel: Channel) -> str:
        return next(part for part in CHOICE[channel] if part in tongue.parts)

    def say(self, channel: Channel, data: Mapping[str, str | None], about: About) -> Said:
        """Return what a message says; raises ``UnsaidError`` where that would not be whole."""
        tongue = self.tongue(about.locale)
        if lacking := [name for name in tongue.wants if not _there(data.get(name))]:
            raise UnsaidError(WordReason.MISSING, min(lacking))
        return self._say(channel, tongue, data, about, [(data, about)])

    def say_several(self, channel: Channel, items: Sequence[tuple[Mapping[str, str | None], About]]) -> Said:
        """Return what one message says of several reminders; raises ``UnsaidError`` where that would not be whole.

        Outside of the loop through them only what they have in common is known.
        """
        first = items[0][1]
        data = {name: value for name, value in items[0][0].items() if all(one.get(name) == value for one, _ in items)}
        about = replace(first, title="", text="")
        return self._say(channel, self.tongue(first.locale), data, about, items)

    def _say(
        self,
        channel: Channel,
        tongue: Tongue,
        data: Mapping[str, str | None],
        about: About,
        items: Sequence[tuple[Mapping[str, str | None], About]],
    ) -> Said:
        reader = _reader(about.locale, tongue.name, about.zone)
        values: dict[str, Any] = {name: inert(value) for name, value in data.items() if value is not None}
        values |= {"data": values.copy(), "reminder": about.known(), "_reader": reader}
        part = self._part(tongue, channel)
        if any(needs.several for needs in tongue.needs.values()):
            several = values | {ITEMS: [_Item(*item) for item in items]}
        else:
            several = values
        context = Context(_TEXT, several, None, {})
        text = tongue.parts[part](context).strip()
        if not text:
            raise UnsaidError(WordReason.FAILED, f"text in {FILES[part]}")
        if channel not in TITLED:
            return Said("", text.translate(_NARROW))
        subject = tongue.parts.get("subject")
        title = subject(context) if subject is not None else about.title
        html = tongue.parts.get("html") if channel is Channel.EMAIL else None
        made = html(Context(_HTML, several, None, {})) if html is not None else ""
        return Said(render.one_line(title, MAX_OUTPUT), text, made)


@lru_cache(maxsize=4096)
def _reader(own: str, words: str, zone: str) -> formats.Reader:
    """Return who reads: in their own locale where the words are in its language, else in that of the words."""
    mine, theirs = formats.locale_of(own) if own else None, formats.locale_of(words)
    same = mine is not None and theirs is not None and mine.language == theirs.language
    return formats.reader(own if same else words, zone)


def _there(value: str | None) -> bool:
    return value is not None and value != "" and not value.isspace()


def inert(value: str) -> str:
    """Return a value that cannot end a line of a header, disguise what stands around it, or be no text at all."""
    if value.isprintable():
        return value
    return render.many_lines(value).translate(_BIDI)


def wanted(text: str) -> tuple[str, int] | None:
    """Return the name and the version (0: the newest) that an event asks for, None where it is neither."""
    found = _WANTED.match(text)
    return (found[1], int(found[2] or 0)) if found else None


# -- the sandbox -------------------------------------------------------------------------------------------------------


class _Missing(StrictUndefined):
    """A value that is not there ends the message, and says which it was."""

    def _fail_with_undefined_error(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise UnsaidError(WordReason.MISSING, str(self._undefined_name or "a value"))

    __str__ = __iter__ = __len__ = __bool__ = __eq__ = __ne__ = __hash__ = _fail_with_undefined_error
    __add__ = __radd__ = __sub__ = __rsub__ = __lt__ = __le__ = __gt__ = __ge__ = _fail_with_undefined_error
    __neg__ = __int__ = __float__ = __contains__ = __getitem__ = _fail_with_undefined_error


def _finalize(value: Any) -> Any:
    if value is None:
        raise UnsaidError(WordReason.MISSING, "a value")
    return value


@pass_context
def _date(context: Any, value: Any, style: str = "long") -> str:
    return formats.format_date(_given(value), context["_reader"], style)


@pass_context
def _time(context: Any, value: Any, style: str = "short") -> str:
    return formats.format_time(_given(value), context["_reader"], style)


@pass_context
def _datetime(context: Any, value: Any, style: str = "long") -> str:
    return formats.format_datetime(_given(value), context["_reader"], style)


@pass_context
def _number(context: Any, value: Any) -> str:
    return formats.format_number(_given(value), context["_reader"])


@pass_context
def _percent(context: Any, value: Any) -> str:
    return formats.format_percent(_given(value), context["_reader"])


@pass_context
def _money(context: Any, value: Any, currency: str = "") -> str:
    return formats.format_money(_given(value), context["_reader"], str(currency))


@pass_context
def _plural(context: Any, value: Any, **forms: str) -> str:
    return formats.format_plural(_given(value), context["_reader"], forms)


def _url(value: Any) -> str:
    text = str(_given(value)).strip()
    if not _LINK.match(text):
        raise NotOneError("a link that begins with https://, mailto: or tel:")
    return text


def _split(value: Any, separator: str = ",") -> list[str]:
    items = [item.strip() for item in str(_given(value)).split(separator or ",", MAX_ITEMS)]
    if len(items) > MAX_ITEMS:
        raise NotOneError(f"a list of at most {MAX_ITEMS} items")
    return [item for item in items if item]


def _int(value: Any) -> int:
    return int(formats.number_of(_given(value)))


def _given(value: Any) -> Any:
    if isinstance(value, _Missing):
        value._fail_with_undefined_error()
    return _finalize(value)


_OWN: dict[str, Callable[..., Any]] = {
    "date": _date,
    "time": _time,
    "datetime": _datetime,
    "number": _number,
    "percent": _percent,
    "money": _money,
    "plural": _plural,
    "url": _url,
    "split": _split,
    "int": _int,
    "float": lambda value: formats.number_of(_given(value)),
}


def _environment(*, html: bool) -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        autoescape=html, undefined=_Missing, finalize=_finalize, trim_blocks=True, lstrip_blocks=True, cache_size=0
    )
    made.globals.clear()
    made.filters = {name: made.filters[name] for name in PLAIN_FILTERS} | _OWN
    made.tests = {name: made.tests[name] for name in TESTS}
    return made


_TEXT, _HTML = _environment(html=False), _environment(html=True)


#: What renders a file, and what it needs.
_Part = tuple[Callable[[Context], str], Needs]


def _rendered(environment: ImmutableSandboxedEnvironment, tree: nodes.Template) -> Callable[[Context], str]:
    template = environment.from_string(tree)
    run = template.root_render_func
    loops = tree.find(nodes.For) is not None

    def rendered(context: Context) -> str:
        try:
            text = _counted(run(context)) if loops else "".join(run(context))
        except NotOneError as exc:
            raise UnsaidError(WordReason.FAILED, f"no value is {exc}") from None
        except UnsaidError:
            raise
        except (TemplateError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as exc:
            # What it quotes may be a value.
            raise UnsaidError(WordReason.FAILED, type(exc).__name__) from None
        if len(text) > MAX_OUTPUT:
            raise UnsaidError(WordReason.TOO_LONG, f"more than {MAX_OUTPUT} characters")
        return text

    return rendered


def _counted(pieces: Iterable[str]) -> str:
    """Return a text out of its pieces, no more of it than is to be refused."""
    made, size = [], 0
    for piece in pieces:
        made.append(piece)
        size += len(piece)
        if size > MAX_OUTPUT:
            break
    return "".join(made)


# -- reading -----------------------------------------------------------------------------------------------------------


def compiled(source: Source) -> tuple[Version | None, list[TemplateFault]]:
    """Return a template that can be rendered, or everything that is wrong with it."""
    faults: list[TemplateFault] = []
    default, variables = _settings(source, faults)
    trees: dict[str, dict[str, _Part]] = {}
    for path in sorted(source.files):
        if path == SETTINGS:
            continue
        folder, _, file = path.rpartition("/")
        locale = formats.locale_of(folder or default)
        if locale is None or (folder and formats.tag(locale) != folder):
            remedy = f"name the folder as a locale: {formats.tag(locale)}" if locale else "name the folder as a locale"
            faults.append(TemplateFault(path, 0, f"{remedy}, such as de or de-AT"))
        elif file not in PARTS:
            faults.append(TemplateFault(path, 0, f"no part of a message; use {', '.join(PARTS)}, {SETTINGS}"))
        elif found := _read(source.files[path], path, locale, faults):
            trees.setdefault(formats.tag(locale), {})[PARTS[file]] = found
    own = formats.tag(formats.locale_of(default) or Locale(formats.DEFAULT_LOCALE))
    if not faults and own not in trees:
        faults.append(TemplateFault(FILES["text"], 0, "write this file: what has no other is said by it"))
    if faults:
        return None, faults
    tongues = {name: _tongue(name, trees) for name in trees}
    for name, tongue in tongues.items():
        if "text" not in tongue.parts:
            where = "" if name == own else f"{name}/"
            faults.append(
                TemplateFault(f"{where}{FILES['text']}", 0, "write this file: what has no other is said by it")
            )
    return (None, faults) if faults else (Version(source, source.ref, own, tongues, variables), [])


def _tongue(name: str, trees: Mapping[str, Mapping[str, _Part]]) -> Tongue:
    """Return a language with what it lacks from the one that it is a kind of: de-AT from de, never from another."""
    merged: dict[str, _Part] = {}
    for near in reversed(formats.chain(name)):
        merged |= trees.get(near, {})
    return Tongue(
        name,
        formats.locale_of(name) or Locale(formats.DEFAULT_LOCALE),
        {part: rendered for part, (rendered, _) in merged.items()},
        frozenset().union(*(needs.wants for _, needs in merged.values())),
        {part: needs for part, (_, needs) in merged.items()},
    )


def _read(text: str, path: str, locale: Locale, faults: list[TemplateFault]) -> _Part | None:
    if len(text) > MAX_SOURCE:
        faults.append(TemplateFault(path, 0, f"has {len(text)} characters; use at most {MAX_SOURCE}"))
        return None
    html = path.endswith(FILES["html"])
    environment = _HTML if html else _TEXT
    try:
        tree = environment.parse(text)
    except TemplateSyntaxError as exc:
        faults.append(TemplateFault(path, exc.lineno, f"cannot be read: {exc.message}"))
        return None
    except RecursionError:
        faults.append(TemplateFault(path, 0, "is too deep; write it flatter"))
        return None
    wrong, needs = look(tree, path, locale, html=html)
    if wrong:
        faults.extend(wrong)
        return None
    try:
        return _rendered(environment, tree), needs
    except (TemplateError, RecursionError, SyntaxError) as exc:
        faults.append(TemplateFault(path, getattr(exc, "lineno", 0) or 0, "cannot be compiled; write it simpler"))
        return None


def _settings(source: Source, faults: list[TemplateFault]) -> tuple[str, dict[str, Variable]]:
    def fault(remedy: str) -> None:
        faults.append(TemplateFault(SETTINGS, 0, remedy))

    default, variables = formats.DEFAULT_LOCALE, dict[str, Variable]()
    if not _NAME.match(source.name):
        faults.append(TemplateFault(source.name, 0, "name it with letters, digits, dots, dashes and underscores"))
    try:
        table = tomllib.loads(source.files.get(SETTINGS, ""))
    except tomllib.TOMLDecodeError as exc:
        fault(f"is no TOML: {exc}")
        return default, variables
    for key in set(table) - {"locale", "variables"}:
        fault(f"{key} is not known; use locale and [variables.NAME]")
    named = table.get("locale", default)
    if isinstance(named, str) and formats.locale_of(named) is not None:
        default = formats.tag(formats.locale_of(named) or Locale(default))
    else:
        fault("locale: name one, such as de or de-AT")
    tables = table.get("variables", {})
    for name, given in tables.items() if isinstance(tables, dict) else ():
        sample, most = (given.get("sample", ""), given.get("most", 0)) if isinstance(given, dict) else (None, 0)
        if not isinstance(sample, str) or not isinstance(most, int) or most < 0 or set(given) - {"sample", "most"}:
            fault(f'variables.{name}: use sample = "text" and most = 60')
        else:
            variables[name] = Variable(sample, most)
    return default, variables


# -- samples -----------------------------------------------------------------------------------------------------------


def samples(version: Version, tongue: Tongue, *, fill: str = "") -> dict[str, str]:
    """Return a value for each variable of a language: its sample, else its name in brackets.

    ``fill``: a character that fills each to the most that it may be, for the worst case.
    """
    typed: dict[str, str] = {}
    for needs in tongue.needs.values():
        typed |= needs.samples
    made = {}
    for name in frozenset().union(*(needs.wants | needs.optional for needs in tongue.needs.values())):
        known = version.variables.get(name, Variable())
        if fill and name not in typed:
            made[name] = fill * (known.most or USUAL_MOST)
        else:
            made[name] = known.sample or typed.get(name) or f"[{name}]"
    return made
