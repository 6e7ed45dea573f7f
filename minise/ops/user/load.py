"""Import a Python file with its folder on the path, and raise a clear error if it has no ops.

The folder remains the first entry of sys.path, for imports inside functions. The module is in
sys.modules while it runs: dataclasses and imports from sibling files look it up there. Its name is
not ``__main__``, so that ``if __name__ == "__main__"`` blocks do not run. The file is compiled at
every import, because Python's bytecode cache would miss an edit of the same size within a second.
"""

import importlib
import importlib.util
import inspect
import sys
from difflib import get_close_matches
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from minise.checks import did_you_mean
from minise.ops.user.completed import CONTRACT, OPS, UserOps, split_name
from minise.ops.user.errors import format_error, location_of, one_line

PREFIX = "minise_user_ops_"  # of a file with the name of a module of Python
_folders: list[str] = []  # of imported files, on sys.path


def from_file(name: str) -> UserOps:
    """Return the ops of a file, completed by the reference's.

    Raises
    ------
    ValueError
        If the file does not exist, cannot be imported, or has no op. The message is one line that
        begins with the file, and with the line number for an error inside the file.
    """
    file = Path(name).resolve()
    _check_file(name, file)
    stem = _module_name(file)
    module = _run(file, stem)
    return completed(module, file)


def import_named(name: str) -> ModuleType | None:
    """Import a module by its dotted name, or return None if there is none.

    Raises
    ------
    ValueError
        If it cannot be imported. The message is one line with file and line number.
    """
    try:
        spec = importlib.util.find_spec(name)  # imports the parent packages
    except KeyboardInterrupt:
        raise
    except (ModuleNotFoundError, ValueError):
        return None
    except BaseException as error:
        text = f"{type(error).__name__}: {one_line(str(error))}"
        raise ValueError(f"ops {name!r} cannot be imported: {text}") from error
    if spec is None:
        return None
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ValueError(_import_error(error, Path(spec.origin or name))) from error


def from_module(module: ModuleType) -> UserOps | None:
    """Return a user's module completed by the reference's ops, or None if it has no op."""
    if not _has_op(vars(module)):
        return None
    return completed(module, Path(module.__file__ or module.__name__).resolve())


def completed(module: ModuleType, file: Path) -> UserOps:
    """Check a module's functions and return it as a back end."""
    functions = {name: value for name, value in vars(module).items() if name[:1] != "_"}
    for name, function in functions.items():
        if name in CONTRACT:
            _check_function(name, function, file)
    _check_names(functions, file)
    return UserOps(module, file)


class _Loader(SourceFileLoader):
    """Compiles the source file at every import, without the bytecode cache."""

    def path_stats(self, path: Any) -> Any:
        """Raise OSError, so that no bytecode cache is read or written."""
        raise OSError(f"{path} is compiled each time")

    def source_to_code(  # type: ignore[override]
        self, data: Any, path: Any, *, _optimize: int = -1
    ) -> Any:
        """Compile the file; refuse invalid UTF-8, which Python allows in comments."""
        try:
            importlib.util.decode_source(data)
        except UnicodeDecodeError as error:
            raise _not_text(
                path, data, error.start, "is not UTF-8: save the file as UTF-8"
            ) from None
        except SyntaxError as error:  # in a coding line
            text = f"{error.msg}: save the file as UTF-8"
            raise SyntaxError(text, (str(path), 1, None, None)) from None
        if b"\0" in data:
            raise _not_text(path, data, data.index(b"\0"), "is not text: save the file as UTF-8")
        return super().source_to_code(data, path, _optimize=_optimize)


def _not_text(path: Any, data: bytes, start: int, text: str) -> SyntaxError:
    number = data[:start].count(b"\n") + 1
    return SyntaxError(f"byte 0x{data[start]:02x} {text}", (str(path), number, None, None))


def _check_file(name: str, file: Path) -> None:
    if file.is_dir():
        raise ValueError(f"ops {name!r} is a folder, expected a Python file such as my_ops.py")
    if not file.exists():
        neighbours = [path.name for path in file.parent.glob("*.py") if path.is_file()]
        hint = did_you_mean(file.name, neighbours)
        raise ValueError(f"ops {name!r} does not exist, expected a Python file with ops{hint}")
    if not file.is_file():
        raise ValueError(f"ops {name!r} is not a regular file, expected a Python file with ops")
    try:
        file.open("rb").close()
    except OSError as error:
        raise ValueError(f"ops {name!r} cannot be read: {error.strerror}") from None


def _module_name(file: Path) -> str:
    """Return the module name of a file: its stem, unless a standard module has this name.

    The standard module is then imported first, so that all modules except the file's siblings still
    import it, and the file's name gets a prefix.
    """
    stem = file.stem
    if stem in ("__main__", "test"):  # missing in stdlib_module_names
        return PREFIX + stem
    if stem in sys.stdlib_module_names:
        if stem not in ("this", "antigravity"):  # their import has side effects
            importlib.import_module(stem)
        return PREFIX + stem
    known = getattr(sys.modules.get(stem), "__file__", None) if stem in sys.modules else None
    if known is None and stem not in sys.modules:
        known = _installed(stem)
    if known is not None and Path(known).resolve().parent != file.parent and not _is_own(known):
        raise ValueError(
            f"{file.name} has the name of the installed package {stem}, which it would hide from "
            f"every import, expected a name of its own: rename it, for example my_{stem}.py"
        )
    return stem


def _installed(stem: str) -> str | None:
    """Return the path from which a module of this name would be imported, or None."""
    try:
        spec = importlib.util.find_spec(stem) if stem.isidentifier() else None
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    return spec.origin or next(iter(spec.submodule_search_locations or ()), "")


def _is_own(path: str) -> bool:
    return str(Path(path).resolve().parent) in _folders or Path(path).parent == Path.cwd()


def _run(file: Path, name: str) -> ModuleType:
    """Import a file with its folder on sys.path and its module in sys.modules."""
    folder = str(file.parent)
    _forget_shadowed(file.parent)
    importlib.invalidate_caches()
    is_new = folder not in _folders
    before = list(sys.path)
    sys.path[:] = [folder, *(path for path in sys.path if path != folder)]
    _folders[:] = [folder, *(path for path in _folders if path != folder)]
    spec = importlib.util.spec_from_file_location(name, file, loader=_Loader(name, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        sys.modules.pop(name, None)
        if is_new:
            sys.path[:] = before
            _folders.remove(folder)
        raise ValueError(_import_error(error, file)) from error
    return module


def _import_error(error: BaseException, file: Path) -> str:
    message = format_error(error, file)
    if isinstance(error, SystemExit):
        location = message.partition(": SystemExit")[0]
        return (
            f"{location}: the file ends Python while it is imported (sys.exit), expected functions "
            'only: put the code to run under if __name__ == "__main__":'
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{message}: install {one_line(error.name)}, or put its file beside {file.name}"
    return message


def _forget_shadowed(folder: Path) -> None:
    """Remove modules of users' folders from sys.modules if this folder has a file of their name.

    So siblings are reloaded with the file, and two folders may each have a helpers.py.
    """
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path is None or "." in name or str(Path(path).parent) not in _folders:
            continue
        if (folder / f"{name}.py").exists():
            del sys.modules[name]


def _check_function(name: str, function: Any, file: Path) -> None:
    """Raise ValueError unless the value is a function that returns its results."""
    location = location_of(function, file) if callable(function) else file.name
    if inspect.isclass(function) or not callable(function):
        kind = "a class" if inspect.isclass(function) else f"of type {type(function).__name__}"
        kind = "None" if function is None else kind
        raise ValueError(f"{location}: {name} is {kind}, expected a function")
    for test, kind, hint in (
        (inspect.iscoroutinefunction, "a coroutine function", "write def, not async def"),
        (inspect.isasyncgenfunction, "an asynchronous generator", "write def, and return"),
        (inspect.isgeneratorfunction, "a generator function", "write return, not yield"),
    ):
        if test(function):
            raise ValueError(f"{location}: {name} is {kind}, expected a function: {hint}")


def _check_names(functions: dict[str, Any], file: Path) -> None:
    """Raise ValueError for a file without ops, or a misspelt name of an op's function."""
    missing = CONTRACT - functions.keys()
    for name, function in functions.items():
        if name in CONTRACT or not callable(function) or _is_pair(name, functions):
            continue
        location = location_of(function, file)
        close = get_close_matches(name, missing, 1, 0.9)
        if close and location.startswith(f"{file.name}:"):
            raise ValueError(
                f"{location}: {name} is not a function of minise's ops: did you mean {close[0]}?"
            )
    if _has_op(functions):
        return
    pairs = [n.removesuffix("_forward") for n in functions if n.endswith("_forward")]
    hint = f"; check {', '.join(pairs)} by minise.gradcheck.check" if pairs else ""
    close = [match for pair in pairs for match in get_close_matches(pair, OPS, 1)]
    hint = f": did you mean {close[0]}?{hint}" if close else hint
    raise ValueError(
        f"{file.name} has no op of minise's, expected functions such as relu_forward and "
        f"relu_backward{hint}"
    )


def _has_op(functions: dict[str, Any]) -> bool:
    """Return True if the file has a function of the contract; NumPy too has asarray and asnumpy."""
    return bool((CONTRACT - {"asarray", "asnumpy"}) & functions.keys())


def _is_pair(name: str, functions: dict[str, Any]) -> bool:
    """Return True if a name is the forward or backward of a complete op."""
    op, half = split_name(name)
    other = {"forward": "backward", "backward": "forward"}.get(half)
    return other is not None and f"{op}_{other}" in functions
