"""Plants each fault by hand and sees whether its named test notices."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutants import forked
from tests.mutants.faults import Fault

#: How long the named test may take, in seconds; so far it has taken few.
LIMIT_S = 120.0
#: By these a fault fails that is not one: what it leaves is no program.
_BROKEN = frozenset(
    {"AttributeError", "ImportError", "IndentationError", "ModuleNotFoundError", "NameError", "SyntaxError"}
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a fault. ``said``: why it is not caught, empty if it is."""

    fault: Fault
    said: str
    seconds: float = 0.0

    @property
    def caught(self) -> bool:
        """Whether the named test failed by it, as it should."""
        return not self.said


def planted(copy: Path, fault: Fault) -> Verdict:
    """Plant a fault in the copy, run its test, and take it out again."""
    file = copy / fault.file
    text = file.read_text()
    if (times := text.count(fault.old)) != 1:
        return Verdict(fault, f"its old text is there {times} times")
    try:
        file.write_text(text.replace(fault.old, fault.new))
        ran = forked.run(copy, [fault.test], limit_s=LIMIT_S)
    finally:
        file.write_text(text)
    return Verdict(fault, _why(ran), ran.seconds)


def _why(ran: forked.Ran) -> str:
    match ran.code:
        case 0:
            return "SURVIVED"
        case -1:
            return f"no end within {LIMIT_S:g} s"
        case 1 if ran.failures:
            kinds = {kind for failure in ran.failures for kind in failure.by}
            if kinds & _BROKEN or any(failure.phase == "collect" for failure in ran.failures):
                return f"is no program: {', '.join(sorted(kinds))}"
            return ""
        case code:
            return f"pytest ended with {code}: {ran.output.strip().splitlines()[-1:]}"


def healthy(copy: Path, faults: Sequence[Fault]) -> str:
    """Return what fails of the named tests without any fault, empty if nothing does."""
    tests = sorted({fault.test for fault in faults})
    ran = forked.run(copy, tests, limit_s=LIMIT_S + 10 * len(tests), first=False)
    if ran.code == 0:
        return ""
    return ", ".join(failure.test for failure in ran.failures) or ran.output[-1000:]
