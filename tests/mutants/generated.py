"""Mutants made by a program: small changes of the pure rules, of which the tests should notice nearly all.

Changed are comparisons, ``and`` and ``or``, ``not``, sums and products, numbers, truth values, ``min`` and ``max``,
conditions, what is returned, statements that only call something, and alternatives of a ``case``. Left alone are texts,
types, decorators, docstrings, logging and what only raises or asserts.
"""

import ast
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_COMPARED: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
_COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
}
_OTHERS = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change of a file: what stands from ``start`` to ``end`` (bytes) becomes ``new``. ``function``: the first line
    of the function it is in. ``text``: the line on which it begins."""

    file: str
    line: int
    text: str
    start: int
    end: int
    old: str
    new: str
    function: int

    @property
    def name(self) -> str:
        """What it is called in lists: it stays the same when other lines move."""
        return f"{self.file}: {self.text}: {self.change}"

    @property
    def change(self) -> str:
        """What becomes of what."""
        return f"{' '.join(self.old.split())} -> {' '.join(self.new.split())}"

    def of(self, text: bytes) -> bytes:
        """Return the file's text with the change made."""
        return text[: self.start] + self.new.encode() + text[self.end :]


class _Finder(ast.NodeVisitor):
    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text.encode()
        self._lines = [0]
        for line in self._text.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._function = 0
        self.found: list[Mutant] = []

    def _at(self, line: int, column: int) -> int:
        return self._lines[line - 1] + column

    def _add(self, node: ast.expr | ast.stmt | ast.pattern, new: str) -> None:
        start = self._at(node.lineno, node.col_offset)
        end = self._at(node.end_lineno or node.lineno, node.end_col_offset or 0)
        old = self._text[start:end].decode()
        if self._function and new != old:
            self._found(node.lineno, start, end, old, new)

    def _found(self, line: int, start: int, end: int, old: str, new: str) -> None:
        text = self._text.splitlines()[line - 1].decode().strip()
        self.found.append(Mutant(self._file, line, text, start, end, old, new, self._function))

    def _with(self, node: ast.expr, changed: ast.expr) -> None:
        self._add(node, f"({ast.unparse(changed)})")

    # -- where

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, self._function = self._function, min([node.lineno, *(d.lineno for d in node.decorator_list)])
        for statement in node.body:
            self.visit(statement)
        self._function = outer

    def visit_Raise(self, node: ast.Raise) -> None:
        """Leave alone what says why."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """Leave alone what only asserts."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    # -- what

    def visit_Compare(self, node: ast.Compare) -> None:
        left: ast.expr = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            start = self._at(left.end_lineno or 0, left.end_col_offset or 0)
            end = self._at(right.lineno, right.col_offset)
            between = self._text[start:end].decode()
            old = {ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in"}.get(type(operator)) or {
                ast.Lt: "<",
                ast.LtE: "<=",
                ast.Gt: ">",
                ast.GtE: ">=",
                ast.Eq: "==",
                ast.NotEq: "!=",
            }[type(operator)]
            if self._function and between.count(old) == 1:
                new = between.replace(old, _COMPARED[type(operator)])
                whole = self._text[self._at(node.lineno, node.col_offset) : start].decode()
                rest = self._text[end : self._at(node.end_lineno or 0, node.end_col_offset or 0)].decode()
                first = self._at(node.lineno, node.col_offset)
                last = self._at(node.end_lineno or 0, node.end_col_offset or 0)
                self._found(node.lineno, first, last, whole + between + rest, whole + new + rest)
            left = right
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._with(node, ast.BoolOp(other, node.values))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._with(node, ast.Call(ast.Name("bool"), [node.operand], []))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if (other := _COUNTED.get(type(node.op))) is not None and not _is_text(node):
            self._with(node, ast.BinOp(node.left, other(), node.right))
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if (other := _COUNTED.get(type(node.op))) is not None:
            self._add(node, ast.unparse(ast.AugAssign(node.target, other(), node.value)))
        self.visit(node.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        match node.value:
            case bool():
                self._add(node, str(not node.value))
            case int() | float():
                self._add(node, repr(node.value + 1))

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in _OTHERS:
            self._add(node.func, _OTHERS[node.func.id])
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self._add(node, "return None")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return
        if isinstance(node.value, ast.Call) and not ast.unparse(node.value.func).startswith(("log.", "assert_never")):
            self._add(node, "pass")
        if isinstance(node.value, ast.Call) and ast.unparse(node.value.func).startswith(("log.", "assert_never")):
            return
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def _condition(self, test: ast.expr) -> None:
        if isinstance(test, ast.Name | ast.Attribute | ast.Call | ast.NamedExpr):
            self._with(test, ast.UnaryOp(ast.Not(), test))

    def visit_MatchOr(self, node: ast.MatchOr) -> None:
        for n in range(len(node.patterns)):
            rest = [p for m, p in enumerate(node.patterns) if m != n]
            self._add(node, " | ".join(ast.unparse(p) for p in rest))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave texts alone."""


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str | bytes))
        for side in (node.left, node.right)
    )


def mutants(file: str, text: str) -> list[Mutant]:
    """Return all mutants of a file."""
    finder = _Finder(file, text)
    finder.visit(ast.parse(text))
    return finder.found


def sample(root: Path, files: list[str], count: int, seed: int) -> Iterator[Mutant]:
    """Yield ``count`` mutants of each file, or all where it has fewer; the same ones for a seed."""
    for file in files:
        every = mutants(file, (root / file).read_text())
        chosen = random.Random(f"{seed}/{file}").sample(every, min(count, len(every)))
        yield from sorted(chosen, key=lambda one: (one.start, one.new))
