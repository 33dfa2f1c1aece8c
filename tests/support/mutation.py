"""Small changes of code, made on its syntax tree: neither names of local variables nor formatting nor comments matter.

A place is a qualified name: "navit_eqx.masks:same_image", "data.rows:PlannedRows.load", "navit_eqx.resize:FLEXIVIT",
"navit_eqx.training.step:train_step.gradient" for a function in a function. Patterns and replacements are expressions
in which a name that starts with two underscores is a wildcard: it stands for any expression, for the same one wherever
it occurs. `*__rest` at the end of a call or a display stands for all further elements, `**__rest` for all further
keywords.
"""

import ast
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[ast.AST], None]
Bound = dict[str, Any]


class DoesNotApply(ValueError):
    """The code is no longer as a change expects it."""


# changes ------------------------------------------------------------------------------------------------


def replace(pattern: str, by: str, nth: int | None = None) -> Change:
    """One expression becomes another: the only one that matches, or the n-th (from 0) in the order of the source."""

    def change(node: ast.AST) -> None:
        wanted, found = expression(pattern), []
        for candidate in ast.walk(node):
            bound: Bound = {}
            if isinstance(candidate, ast.expr) and matches(wanted, candidate, bound):
                found.append((candidate, bound))
        found.sort(key=lambda pair: (pair[0].lineno, pair[0].col_offset))
        if len(found) <= (nth or 0) or (nth is None and len(found) != 1):
            raise DoesNotApply(f"`{pattern}` occurs {len(found)} times")
        exchange(node, *[(old, substituted(expression(by), bound)) for old, bound in [found[nth or 0]]])

    return change


def returns(by: str) -> Change:
    """The only return value of a function becomes another; `__value` stands for the old one."""

    def change(node: ast.AST) -> None:
        found = [inner for inner in own_nodes(node) if isinstance(inner, ast.Return) and inner.value]
        if len(found) != 1:
            raise DoesNotApply(f"it returns at {len(found)} places")
        found[0].value = substituted(expression(by), {"__value": found[0].value})

    return change


def starts_with(statement: str) -> Change:
    """A statement before all others of a function."""

    def change(node: ast.AST) -> None:
        assert isinstance(node, ast.FunctionDef)
        node.body.insert(1 if ast.get_docstring(node) is not None else 0, ast.parse(statement).body[0])

    return change


def mutated(source: str, place: str, change: Change) -> str:
    """The source of a module, without comments, after a change.   Raises DoesNotApply, naming the place."""
    tree = ast.parse(source)
    try:
        node = found_in(tree, place.partition(":")[2])
        before = ast.dump(node)
        change(node)
    except DoesNotApply as error:
        raise DoesNotApply(f"{place}: {error}") from None
    if ast.dump(node) == before:
        raise DoesNotApply(f"{place}: nothing changes")
    return ast.unparse(tree) + "\n"


def file_of(root: Path, place: str) -> Path:
    """The file in which a place lies."""
    path = root / place.partition(":")[0].replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


# syntax trees --------------------------------------------------------------------------------------------


def expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def found_in(tree: ast.AST, name: str) -> ast.AST:
    """The definition of a qualified name.   Raises DoesNotApply."""
    node = tree
    for part in name.split("."):
        inside = [inner for inner in getattr(node, "body", []) if part in names_of(inner)]
        if len(inside) != 1:
            raise DoesNotApply(f"{part} is defined {len(inside)} times")
        node = inside[0]
    return node


def names_of(statement: ast.AST) -> list[str]:
    """What a statement defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def own_nodes(node: ast.AST) -> list[ast.AST]:
    """Of a function, without those of functions in it."""
    found: list[ast.AST] = []
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.Lambda):
            found += [child, *own_nodes(child)]
    return found


def is_wildcard(node: Any) -> bool:
    return isinstance(node, ast.Name) and node.id.startswith("__") and not node.id.endswith("__")


def rest_of(node: Any) -> str | None:
    """The name of `*__rest` or `**__rest`."""
    starred = isinstance(node, ast.Starred) or isinstance(node, ast.keyword) and node.arg is None
    return node.value.id if starred and is_wildcard(node.value) else None


def matches(pattern: Any, node: Any, bound: Bound) -> bool:
    """Whether a pattern has the form of a node; `bound` then holds what its wildcards stand for."""
    if is_wildcard(pattern):
        known = bound.setdefault(pattern.id, node)
        return isinstance(node, ast.expr) and ast.dump(known) == ast.dump(node)
    if isinstance(pattern, list):
        rest = rest_of(pattern[-1]) if pattern else None
        fixed = pattern[:-1] if rest else pattern
        if not isinstance(node, list) or len(node) < len(fixed) or (not rest and len(node) > len(fixed)):
            return False
        if rest:
            bound[rest] = node[len(fixed) :]
        return all(matches(a, b, bound) for a, b in zip(fixed, node))
    if isinstance(pattern, ast.AST):
        fields = [field for field in pattern._fields if field not in ("ctx", "kind", "type_comment")]
        same = type(pattern) is type(node)
        return same and all(matches(getattr(pattern, f), getattr(node, f), bound) for f in fields)
    return bool(pattern == node and type(pattern) is type(node))


class _Substitution(ast.NodeTransformer):
    def __init__(self, bound: Bound):
        self.bound = bound

    def visit_Name(self, node: ast.Name) -> Any:
        return copy.deepcopy(self.bound[node.id]) if is_wildcard(node) else node

    def visit_Starred(self, node: ast.Starred) -> Any:
        rest = rest_of(node)
        return copy.deepcopy(self.bound[rest]) if rest else self.generic_visit(node)

    visit_keyword = visit_Starred  # pyright: ignore[reportAssignmentType]


def substituted(template: ast.expr, bound: Bound) -> ast.expr:
    """A replacement with what the wildcards of a pattern stand for."""
    return _Substitution(bound).visit(template)


class _Exchange(ast.NodeTransformer):
    def __init__(self, pairs: dict[int, ast.expr]):
        self.pairs = pairs

    def visit(self, node: ast.AST) -> Any:
        return self.pairs[id(node)] if id(node) in self.pairs else self.generic_visit(node)


def exchange(node: ast.AST, *pairs: tuple[ast.expr, ast.expr]) -> None:
    """Put new expressions in the place of old ones."""
    _Exchange({id(old): new for old, new in pairs}).generic_visit(node)
