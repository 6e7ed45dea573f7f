"""The import graph of the package, read from its sources."""

import ast
from pathlib import Path

import minise

FOLDER = Path(minise.__file__).parent


def module_of(path, folder=FOLDER):
    """Return the dotted name of the module in a file of the package."""
    parts = path.relative_to(folder.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imports(text, modules):
    """Return the modules that a source text imports, also in functions and for type checkers.

    Relative imports are not read: ruff forbids them.
    """
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= names & modules | ({node.module} if names - modules else set())
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "minise":
            imported.add(f"minise.{node.attr}")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            imported |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return imported & modules


def graph():
    """Return for each module the set of modules that it imports."""
    texts = {module_of(path): path.read_text() for path in sorted(FOLDER.rglob("*.py"))}
    for name, text in texts.items():
        try:
            ast.parse(text)
        except SyntaxError as error:
            raise SyntaxError(f"{name}: {error}") from None
    return {name: imports(text, set(texts)) - {name} for name, text in texts.items()}
