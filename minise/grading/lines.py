"""A reader's source, line by line: what each line writes, and what it reads."""

import ast
import inspect
import linecache
import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from minise.tracing.instrument import RETURN, Instrumented, Line

Assignment = ast.Assign | ast.AugAssign | ast.AnnAssign


def targets_of(node: Assignment) -> list[ast.expr]:
    """Return what a statement assigns; of a = b = ... there are two."""
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def parts_of(target: ast.expr) -> list[ast.expr]:
    """Return what a target unpacks into, or the target itself."""
    return target.elts if isinstance(target, ast.Tuple) else [target]


def base_of(target: ast.expr) -> str:
    """Return the array that a line writes into: dx of dx[i], and of window(dx, …)[...]."""
    if isinstance(target, ast.Subscript | ast.Attribute | ast.Starred):
        return base_of(target.value)
    if isinstance(target, ast.Call) and target.args:
        return base_of(target.args[0])
    return target.id if isinstance(target, ast.Name) else ""


def written_in_part(code: Instrumented) -> dict[str, Line]:
    """Return the arrays that lines write into, such as dx[i] += …, each with its last such line."""
    return {line.name: line for line in lines_in_part(code)}


def lines_in_part(code: Instrumented) -> list[Line]:
    """Return the lines that write into an array; behind one, a line such as dx *= 2 counts too."""
    found: list[Line] = []
    nodes = [one for one in ast.walk(tree_of(code)) if isinstance(one, ast.Assign | ast.AugAssign)]
    for node in sorted(nodes, key=lambda one: one.lineno):
        for target in targets_of(node):
            name, number = base_of(target), node.lineno + first_line(code) - 1
            again = isinstance(node, ast.AugAssign) and name in {line.name for line in found}
            if isinstance(target, ast.Subscript) or again:
                found.append(Line(name, number, ast.unparse(node)))
    return found


def only_a_name(code: Instrumented, place: int) -> bool:
    """Tell whether what is returned at a place is a name that another line made."""
    return isinstance(returned_at(tree_of(code), place), ast.Name)


def returned_names(code: Instrumented) -> set[str]:
    """Return the names that the return hands over as they are."""
    values = [one.value for one in ast.walk(tree_of(code)) if isinstance(one, ast.Return)]
    parts = [part for value in values for part in getattr(value, "elts", [value])]
    return {part.id for part in parts if isinstance(part, ast.Name)}


def returned_at(tree: ast.AST, place: int) -> ast.expr | None:
    """Return the expression of what is returned at a place."""
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
    value = values[-1] if values else None
    return value.elts[place] if isinstance(value, ast.Tuple) else value


def reads_at(tree: ast.AST, line: Line, place: int | None, first: int) -> set[str]:
    """Return the names that a line reads; of one that returns several, those of one of them."""
    if place is not None and (element := returned_at(tree, place)) is not None:
        return _names(element)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and node.lineno + first - 1 == line.number:
            value = getattr(node, "value", None)
            if value is not None:
                return _names(value)
    return set()


def readers(code: Instrumented, line: Line, among: Iterable[Line]) -> list[Line]:
    """Return the lines below one that read what it gives."""
    tree, first = tree_of(code), first_line(code)
    below = [one for one in among if one.number > line.number]
    return [one for one in below if line.name in reads_at(tree, one, None, first)]


def followers(code: Instrumented, line: Line, among: Iterable[Line]) -> list[Line]:
    """Return the lines below one that read what it gives, or that read such a line."""
    tree, first = tree_of(code), first_line(code)
    names, found = {line.name}, []
    for one in sorted(among, key=lambda one: one.number):
        if one.number > line.number and names & reads_at(tree, one, None, first):
            found.append(one)
            names.add(one.name)
    return found


def looped(code: Instrumented) -> set[int]:
    """Return the numbers of the lines in loops, which may give a part, as of one image."""
    return {one.lineno + first_line(code) - 1 for one in _inside_loops(code)}


def summed_in_loops(code: Instrumented) -> set[str]:
    """Return the names that lines in loops add to: they are done when the loop is."""
    return {base_of(one.target) for one in _inside_loops(code) if isinstance(one, ast.AugAssign)}


def _inside_loops(code: Instrumented) -> list[ast.stmt]:
    loops = [one for one in ast.walk(tree_of(code)) if isinstance(one, ast.For | ast.While)]
    inside = [node for loop in loops for line in loop.body for node in ast.walk(line)]
    return [one for one in inside if isinstance(one, ast.stmt)]


def place_of(code: Instrumented, line: Line) -> str:
    """Return file and number of a line, or nothing where the code stands in a notebook's cell."""
    path = Path(code.file)
    if path.name.startswith("__marimo__") or not path.is_file():
        return ""
    return f"{path.name}:{line.number}"


def writes(tree: ast.AST, name: str, first: int) -> Iterator[tuple[int, set[str]]]:
    """Yield number and names read of each line that writes a name, whole or in part."""
    for node in ast.walk(tree):
        if not isinstance(node, Assignment) or node.value is None:
            continue
        for target in targets_of(node):
            unpacks = isinstance(target, ast.Tuple) and not isinstance(node.value, ast.Call)
            if not unpacks and name in map(base_of, parts_of(target)):
                yield node.lineno + first - 1, _names(node.value) | (_names(target) - {name})


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def tree_of(code: Instrumented) -> ast.stmt:
    """Return the function's definition, parsed; its first line is line 1."""
    return ast.parse(_source(code)[0]).body[0]


def rebuilt(
    code: Instrumented, change: ast.NodeTransformer, more: dict[str, Any]
) -> Callable[..., Any]:
    """Return the function with its tree changed, without decorators, with more global names."""
    tree = tree_of(code)
    if isinstance(tree, ast.FunctionDef):
        tree.decorator_list = []
    module = ast.fix_missing_locations(ast.Module([change.visit(tree)], []))
    space = {**code.function.__globals__, **more}
    exec(compile(module, str(code.file), "exec"), space)
    function: Callable[..., Any] = space[code.function.__name__]
    return function


def names_in(text: str) -> set[str]:
    """Return the names that stand in a line."""
    return _names(ast.parse(text))


def names_of(code: Instrumented) -> set[str]:
    """Return the names that a function has, of its own and of NumPy."""
    arguments = {one.arg for one in ast.walk(tree_of(code)) if isinstance(one, ast.arg)}
    return _names(tree_of(code)) | arguments | {"np"}


def first_line(code: Instrumented) -> int:
    """Return the number of the line with the def."""
    return _source(code)[1]


@lru_cache(maxsize=8)
def _source(code: Instrumented) -> tuple[str, int]:
    """Return the source from the line with the def on, and the number of that line."""
    lines, first = inspect.getsourcelines(code.function)
    first = max(first, 1)
    while not lines[0].lstrip().startswith("def "):
        lines, first = lines[1:], first + 1
    return textwrap.dedent("".join(lines)), first


def line_of(error: BaseException, code: Instrumented) -> Line | None:
    """Return the line of the reader's that an error comes from."""
    call = call_of(error, code)
    return None if call is None else line_at(code, call.tb_lineno)


def call_of(error: BaseException, code: Instrumented) -> TracebackType | None:
    """Return the last call of the reader's function on the way to an error."""
    found, step = None, error.__traceback__
    while step is not None:
        own = step.tb_frame.f_code
        if (own.co_name, own.co_filename) == (code.function.__name__, str(code.file)):
            found = step
        step = step.tb_next
    return found


def line_at(code: Instrumented, number: int) -> Line:
    """Return the line of a number, also one that assigns no name."""
    known = [line for line in code.lines if line.number == number]
    text = linecache.getline(str(code.file), number).strip()
    return known[0] if known else Line(_target(text), number, text or "return")


def _target(text: str) -> str:
    """Return the first name that a line assigns or writes into."""
    try:
        statement = ast.parse(text).body[0]
    except (SyntaxError, IndexError):
        return RETURN
    if isinstance(statement, ast.Assign | ast.AugAssign):
        return base_of(parts_of(targets_of(statement)[0])[0]) or RETURN
    return RETURN
