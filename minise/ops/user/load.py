"""Import a Python file as from its own folder, and refuse in words what cannot be a back end.

The folder comes first on the path and stays there, for imports inside functions; the module stands
in sys.modules while it runs, where dataclasses and a sibling's import of it look; its name is not
``__main__``, so that such a block does not run. It is compiled anew each time: the cache that
Python keeps beside a file would miss an edit of the same size within a second.
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

from minise.ops.user.completed import CONTRACT, OPS, UserOps, halves_of
from minise.ops.user.errors import located, place_of, plain

PRIVATE = "minise_user_ops_"  # before the name of a file that is named as a module of Python's
_folders: list[str] = []  # that were put on the path


def from_file(name: str) -> UserOps:
    """Return the ops of a file, completed by the reference's.

    Raises
    ------
    ValueError
        If there is no such file, it cannot be imported, or has no op: one line, which begins with
        the file, and where the file is to blame with the line.
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
        If it cannot be imported: one line, with its file and line.
    """
    try:
        spec = importlib.util.find_spec(name)  # which imports its packages
    except KeyboardInterrupt:
        raise
    except (ModuleNotFoundError, ValueError):
        return None
    except BaseException as error:
        text = f"{type(error).__name__}: {plain(str(error))}"
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
    """Return a user's module completed by the reference's ops, or None if it has no op at all."""
    if not _has_op(vars(module)):
        return None
    return completed(module, Path(module.__file__ or module.__name__).resolve())


def completed(module: ModuleType, file: Path) -> UserOps:
    """Check what a module defines, and return it as a back end."""
    functions = {name: value for name, value in vars(module).items() if name[:1] != "_"}
    for name, function in functions.items():
        if name in CONTRACT:
            _check_function(name, function, file)
    _check_names(functions, file)
    return UserOps(module, file)


class _Loader(SourceFileLoader):
    """Reads the file itself, and no compiled copy of it."""

    def path_stats(self, path: Any) -> Any:
        """Say that there is nothing by which a compiled copy could be recognised."""
        raise OSError(f"{path} is compiled each time")

    def source_to_code(  # type: ignore[override]
        self, data: Any, path: Any, *, _optimize: int = -1
    ) -> Any:
        """Compile the file, and refuse what is no text, which Python lets pass in a comment."""
        try:
            importlib.util.decode_source(data)
        except UnicodeDecodeError as error:
            raise _not_text(
                path, data, error.start, "is not UTF-8: save the file as UTF-8"
            ) from None
        except SyntaxError as error:  # of the first two lines, which may name a coding
            text = f"{error.msg}: save the file as UTF-8"
            raise SyntaxError(text, (str(path), 1, None, None)) from None
        if b"\0" in data:
            raise _not_text(path, data, data.index(b"\0"), "is no text: save the file as UTF-8")
        return super().source_to_code(data, path, _optimize=_optimize)


def _not_text(path: Any, data: bytes, start: int, text: str) -> SyntaxError:
    number = data[:start].count(b"\n") + 1
    return SyntaxError(f"byte 0x{data[start]:02x} {text}", (str(path), number, None, None))


def _check_file(name: str, file: Path) -> None:
    if file.is_dir():
        raise ValueError(f"ops {name!r} is a folder, expected a Python file such as my_ops.py")
    if not file.exists():
        beside = [path.name for path in file.parent.glob("*.py") if path.is_file()]
        close = get_close_matches(file.name, beside, 1)
        hint = f": did you mean {close[0]}?" if close else ""
        raise ValueError(f"ops {name!r} is not there, expected a Python file with ops{hint}")
    if not file.is_file():
        raise ValueError(f"ops {name!r} is no regular file, expected a Python file with ops")
    try:
        file.open("rb").close()
    except OSError as error:
        raise ValueError(f"ops {name!r} cannot be read: {error.strerror}") from None


def _module_name(file: Path) -> str:
    """Return the name under which a file is imported.

    That is its stem. A module of Python's own that has this name is imported first, so that
    everybody but the file's siblings still finds it, and the file gets another name.
    """
    stem = file.stem
    if stem in ("__main__", "test"):  # which Python has, but does not list
        return PRIVATE + stem
    if stem in sys.stdlib_module_names:
        if stem not in ("this", "antigravity"):  # which do something when they are imported
            importlib.import_module(stem)
        return PRIVATE + stem
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
    """Return where a module of this name would be imported from, outside of users' folders."""
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
    """Import the file: its folder on the path, the module in sys.modules before it runs."""
    folder = str(file.parent)
    _forget_shadowed(file.parent)
    importlib.invalidate_caches()
    fresh = folder not in _folders
    before = list(sys.path)
    sys.path[:] = [folder, *(one for one in sys.path if one != folder)]
    _folders[:] = [folder, *(one for one in _folders if one != folder)]
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
        if fresh:
            sys.path[:] = before
            _folders.remove(folder)
        raise ValueError(_import_error(error, file)) from error
    return module


def _import_error(error: BaseException, file: Path) -> str:
    where = located(error, file)
    if isinstance(error, SystemExit):
        place = where.partition(": SystemExit")[0]
        return (
            f"{place}: the file ends Python while it is imported (sys.exit), expected functions "
            'only: put what is to run under if __name__ == "__main__":'
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{where}: install {plain(error.name)}, or put its file beside {file.name}"
    return where


def _forget_shadowed(folder: Path) -> None:
    """Drop modules of users' folders from sys.modules that this folder has a file for, too.

    So a sibling is read anew with its file, and two folders may both have a helpers.py.
    """
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path is None or "." in name or str(Path(path).parent) not in _folders:
            continue
        if (folder / f"{name}.py").exists():
            del sys.modules[name]


def _check_function(name: str, function: Any, file: Path) -> None:
    """Refuse what is no function that returns its results."""
    where = place_of(function, file) if callable(function) else file.name
    if inspect.isclass(function) or not callable(function):
        kind = "a class" if inspect.isclass(function) else f"of type {type(function).__name__}"
        kind = "None" if function is None else kind
        raise ValueError(f"{where}: {name} is {kind}, expected a function")
    for test, what, hint in (
        (inspect.iscoroutinefunction, "a coroutine function", "write def, not async def"),
        (inspect.isasyncgenfunction, "an asynchronous generator", "write def, and return"),
        (inspect.isgeneratorfunction, "a generator function", "write return, not yield"),
    ):
        if test(function):
            raise ValueError(f"{where}: {name} is {what}, expected a function: {hint}")


def _check_names(functions: dict[str, Any], file: Path) -> None:
    """Refuse a file without an op, and a function whose name misses one of the contract's."""
    missing = CONTRACT - functions.keys()
    for name, function in functions.items():
        if name in CONTRACT or not callable(function) or _is_pair(name, functions):
            continue
        place = place_of(function, file)
        close = get_close_matches(name, missing, 1, 0.9)
        if close and place.startswith(f"{file.name}:"):
            raise ValueError(
                f"{place}: {name} is no function of minise's ops: did you mean {close[0]}?"
            )
    if _has_op(functions):
        return
    pairs = [n.removesuffix("_forward") for n in functions if n.endswith("_forward")]
    hint = f"; check {', '.join(pairs)} by minise.gradcheck.check" if pairs else ""
    close = [one for pair in pairs for one in get_close_matches(pair, OPS, 1)]
    hint = f": did you mean {close[0]}?{hint}" if close else hint
    raise ValueError(
        f"{file.name} has no op of minise's, expected functions such as relu_forward and "
        f"relu_backward{hint}"
    )


def _has_op(functions: dict[str, Any]) -> bool:
    """Tell whether any function is one that nets call, but for those that NumPy has too."""
    return bool((CONTRACT - {"asarray", "asnumpy"}) & functions.keys())


def _is_pair(name: str, functions: dict[str, Any]) -> bool:
    """Tell whether a name and another make an op that is the user's altogether."""
    op, half = halves_of(name)
    other = {"forward": "backward", "backward": "forward"}.get(half)
    return other is not None and f"{op}_{other}" in functions
