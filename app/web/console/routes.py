"""Every page of the console as data: one that is not here is not served. docs/console.md lists them."""

from dataclasses import dataclass

from app.tokens import Access


@dataclass(frozen=True, slots=True)
class Screen:
    """One method of one path. ``access`` None: open to all. ``whole``: only for tokens that are bound to no tenant and
    no prefix, since what it shows belongs to all. ``name``: of its handler."""

    method: str
    path: str
    name: str
    access: Access | None
    what: str
    whole: bool = False

    @property
    def pattern(self) -> str:
        """The path as aiohttp takes it: an id may hold slashes."""
        return self.path.replace("{id}", "{id:.+}")


_VIEW, _ACT = Access.VIEWER, Access.OPERATOR

SCREENS: tuple[Screen, ...] = (
    Screen("GET", "/", "front", None, "Leads to `/console`."),
    Screen("GET", "/console", "front_page", _VIEW, "Leads to the list."),
    Screen("GET", "/console/style.css", "style", None, "The stylesheet."),
    Screen("GET", "/console/login", "login_form", None, "The form that takes a token."),
    Screen("POST", "/console/login", "login", None, "Begins a session."),
    Screen("POST", "/console/logout", "logout", _VIEW, "Ends it."),
    Screen("GET", "/console/reminders", "reminders", _VIEW, "Reminders by state, channel, due time and more."),
    Screen("GET", "/console/reminders/{id}", "reminder", _VIEW, "One reminder: trail, why, what comes next, acts."),
    Screen("POST", "/console/reminders", "act", _ACT, "Fire, cancel, snooze, acknowledge, pause, resume, resolve."),
    Screen("GET", "/console/maybe", "maybe", _VIEW, "What may have been sent or not, and forms to settle it."),
    Screen("GET", "/console/letters", "letters", _VIEW, "Dead letters.", whole=True),
    Screen("GET", "/console/letters/{partition}/{offset}", "letter", _VIEW, "One dead letter.", whole=True),
    Screen("POST", "/console/letters", "act_on_letter", _ACT, "Put a letter back, or close it.", whole=True),
    Screen("GET", "/console/holds", "holds", _VIEW, "What is held, and a form to hold more.", whole=True),
    Screen("GET", "/console/templates", "templates", _VIEW, "Templates, and what is wrong with them.", whole=True),
    Screen("GET", "/console/templates/{name}", "template", _VIEW, "One on all channels, with samples.", whole=True),
    Screen("POST", "/console/templates/{name}", "preview", _VIEW, "The same with other values.", whole=True),
    Screen("POST", "/console/holds", "act_on_hold", _ACT, "Hold or release a scope.", whole=True),
)
