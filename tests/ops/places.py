"""Check that every op has all its parts, and report each missing part in one line.

Files are read, not imported, so that the report works even if a missing part makes an import fail.
Ops are the functions in files of minise/ops/reference that state SHAPES or define a cache, and the
declarations in class Backend.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

HALVES = ("forward", "backward")
REFERENCE, JIT = "minise/ops/reference", "minise/ops/jit"
PROTOCOL = "minise/ops/protocol.py"
TABLE = "tutorials/pages/reference.md"
Functions = dict[str, ast.FunctionDef]


def missing(root: Path) -> list[str]:
    """Return a line for every missing part of an op: the op, the file, and the text to add."""
    trees = {path.stem: tree_of(path) for path in sorted((root / REFERENCE).glob("*.py"))}
    twins = {path.stem: functions_of(tree_of(path)) for path in sorted((root / JIT).glob("*.py"))}
    declared = functions_of(class_of(tree_of(root / PROTOCOL), "Backend"))
    lines, known = [], set()
    for family, tree in trees.items():
        functions = functions_of(tree)
        if not is_family(tree, declared):
            continue
        for op in ops_of(functions):
            known.add(op)
            texts = [
                *of_reference(op, family, tree),
                *of_package(REFERENCE, family, root),
                *of_protocol(op, functions, declared),
                *of_twin(op, family, twins.get(family, {}), root),
                *of_other_files(op, family, root),
            ]
            lines += [f"op {op}: {text}" for text in texts]
    for family, functions in twins.items():
        lines += [
            f"op {op}: {JIT}/{family}.py has it, but neither {PROTOCOL} nor a file of {REFERENCE}: "
            "add it there, or rename the function"
            for op in ops_of(functions)
            if op not in known and op not in ops_of(declared)
        ]
    for op in ops_of(declared):
        if op not in known:
            text = f"{PROTOCOL} declares it, but no file of {REFERENCE} has {op}_forward: add it"
            lines.append(f"op {op}: {text} to the file of its family, and {op}_backward below it")
    return lines


def of_reference(op: str, family: str, tree: ast.Module) -> Iterator[str]:
    """Yield the missing parts of an op in its file of the reference."""
    file, functions = f"{REFERENCE}/{family}.py", functions_of(tree)
    for half, other in (HALVES, HALVES[::-1]):
        if f"{op}_{half}" not in functions:
            yield f"{file} has {op}_{other}, but no {op}_{half}: add it"
    if op not in shapes_of(tree):
        line = f'"{op}": "x: N C H W"'
        yield f"SHAPES in {file} has no line for it: add its arrays and their axes, such as {line}"


def of_protocol(op: str, functions: Functions, declared: Functions) -> Iterator[str]:
    """Yield the missing declarations of class Backend."""
    for name in (f"{op}_{half}" for half in (*HALVES, "branches")):
        if name in functions and name not in declared:
            line = declaration(functions[name])
            yield f"class Backend in {PROTOCOL} does not declare {name}: add `{line}`"
        elif name in declared and name not in functions and name.endswith("_branches"):
            yield f"{PROTOCOL} declares {name}, but no file of {REFERENCE} has it: add it"


def of_twin(op: str, family: str, functions: Functions, root: Path) -> Iterator[str]:
    """Yield a line if jit has no function of an op, or does not import the op's file."""
    if not {f"{op}_{half}" for half in HALVES} & functions.keys():
        yield f"{JIT}/{family}.py has neither {op}_forward nor {op}_backward: add one"
    else:
        yield from of_package(JIT, family, root)


def of_package(package: str, family: str, root: Path) -> Iterator[str]:
    """Yield the missing import of a new file, which type checkers need."""
    line = f"from {package.replace('/', '.')}.{family} import *"
    if line not in (root / package / "__init__.py").read_text():
        yield f"{package}/__init__.py lacks the line of its file: add `{line}`"


def of_other_files(op: str, family: str, root: Path) -> Iterator[str]:
    """Yield the files outside the back ends that do not name an op."""
    op_name = rf'"{op}"|\b{op}_(forward|backward)\b'
    spec = root / f"minise/contract/spec/{family}.py"
    if not spec.is_file() or op not in specified(tree_of(spec)):
        yield f"minise/contract/spec/{family}.py has no Spec of it: add one to SPECS"
    test = root / f"tests/ops/test_{family}.py"
    if not test.is_file() or not re.search(op_name, test.read_text()):
        yield f"tests/ops/test_{family}.py does not test it: add a test by hand"
    if f"\n| [{op}](" not in (root / TABLE).read_text():
        yield f"{TABLE} has no row for it in the table of ops: run `python -m tests.tables`"


def specified(tree: ast.Module) -> set[str]:
    """Return the strings in SPECS of a specification file, and in the values that it names."""
    values: dict[str, list[ast.expr]] = {}
    for node in tree.body:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            values.setdefault(ast.unparse(target), []).append(node.value)
    pending, strings = ["SPECS"], set()
    while pending:
        for node in (n for value in values.pop(pending.pop(), ()) for n in ast.walk(value)):
            if isinstance(node, ast.Constant):
                strings.add(node.value)
            elif isinstance(node, ast.Name):
                pending.append(node.id)
    return strings


def is_family(tree: ast.Module, declared: Functions) -> bool:
    """Return True if a file of the reference has ops."""
    caches = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name.endswith("Cache")]
    return bool(caches or shapes_of(tree) or functions_of(tree).keys() & declared.keys())


def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(), str(path))


def class_of(tree: ast.Module, name: str) -> ast.ClassDef:
    """Return a class of a file."""
    return next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)


def functions_of(tree: ast.Module | ast.ClassDef) -> Functions:
    """Return the public functions of a file or a class by name."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name: node for node in functions if node.name[0] != "_"}


def ops_of(functions: Functions) -> list[str]:
    """Return the ops with a forward or a backward, in order."""
    names = [name.rpartition("_") for name in functions if not name.startswith("check_")]
    return list(dict.fromkeys(op for op, _, half in names if op and half in HALVES))


def shapes_of(tree: ast.Module) -> set[str]:
    """Return the ops with a line in a file's SHAPES."""
    return {
        key.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SHAPES"
        for key in getattr(node.value, "keys", [])
    }


def declaration(function: ast.FunctionDef) -> str:
    """Return the declaration of a function for class Backend, with Any for cache classes."""
    arguments = re.sub(r"\b\w+Cache\b", "Any", ast.unparse(function.args))
    result = re.sub(r"\b\w+Cache\b", "Any", ast.unparse(function.returns or ast.Name("Any")))
    return f"def {function.name}(self, {arguments}) -> {result}: ..."
