"""The run folder: config.json, metrics.jsonl, last.safetensors and best.safetensors."""

import json
import math
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from minise import __version__
from minise.checks import as_path, check_integer
from minise.files import write_whole, writing

PACKAGES = ("minise", "numpy", "numba", "safetensors", "rich", "threadpoolctl", "tyro")


class RunFolder:
    """The files of a run.

    Parameters
    ----------
    path : Path
        An existing folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def last(self) -> Path:
        """The checkpoint of the last epoch, or of an interrupted one."""
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        """The checkpoint of the epoch with the best validation accuracy."""
        return self.path / "best.safetensors"

    def write_config(self, settings: dict[str, Any]) -> None:
        """Write config.json: settings, versions, machine and command, to repeat the run."""
        content = {
            "config": settings,
            "versions": versions(),
            "machine": machine(),
            "command": sys.argv,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        text = json.dumps(content, indent=2, allow_nan=False)
        write_whole(self.path / "config.json", f"{text}\n".encode())

    def log(self, kind: str, **values: Any) -> None:
        """Append one line of strict JSON to metrics.jsonl; see as_strict_json."""
        line = json.dumps(as_strict_json({"kind": kind, **values}), allow_nan=False)
        path = self.path / "metrics.jsonl"
        with writing(path, len(line)), path.open("a") as file:
            file.write(f"{line}\n")


def as_strict_json(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of numbers and texts that strict JSON can represent.

    NaN and infinities become None (null), and the entry "not_finite" has their texts by name:
    "nan", "inf" or "-inf".
    """
    texts = {
        name: str(float(value))
        for name, value in record.items()
        if isinstance(value, float) and not math.isfinite(value)
    }
    cleaned = {name: None if name in texts else value for name, value in record.items()}
    return {**cleaned, "not_finite": texts} if texts else cleaned


def create(out: Path, name: str | None, stem: str) -> RunFolder:
    """Make a new run folder out/name, or out/stem-1, -2, …; never overwrite an existing one.

    Raises
    ------
    FileExistsError
        If the folder out/name exists.
    ValueError, TypeError
        If the name is not a valid folder name.
    OSError
        If the folder cannot be written.
    """
    check_name("run", name)
    if "\0" in str(out):
        raise ValueError(f"run: out is {str(out)!r}, expected a folder: pass a path")
    out = as_path(out)
    if name is not None:
        path = out / name
        if path.exists():
            raise FileExistsError(f"{path} exists already: choose another name, or remove it")
        return _made(path)
    for number in range(1, 1_000_000):
        path = out / f"{stem}-{number}"
        if not path.exists():
            return _made(path)
    raise FileExistsError(f"{out} is full of runs: choose a name")


def check_name(where: str, name: str | None) -> None:
    """Check that a name is None, or a valid name of a folder, without its parents."""
    if name is None:
        return
    if not isinstance(name, str):
        raise TypeError(
            f"{where}: name is a {type(name).__name__}, expected a folder name: pass a string"
        )
    if Path(name).name != name or name in ("", "..") or "\0" in name:
        raise ValueError(
            f"{where}: name is {name!r}, expected a plain folder name: set the folder that "
            "contains it with out"
        )


def check_threads(where: str, threads: int, least: int = 1) -> None:
    """Check that a number of threads is at most the number of cores."""
    check_integer(where, "threads", threads, least)
    if threads > cores():
        raise ValueError(
            f"{where}: threads is {threads}, expected at most {cores()}, the cores that this "
            "process may use"
        )


def _made(path: Path) -> RunFolder:
    try:
        path.mkdir(parents=True)
        (path / "metrics.jsonl").touch()
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            f"run folder {path} cannot be written ({reason}): choose another folder by out"
        ) from None
    return RunFolder(path)


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of packages, by default those that a run depends on."""
    by_name = {"python": platform.python_version()}
    for name in packages:
        try:
            by_name[name] = __version__ if name == "minise" else version(name)
        except PackageNotFoundError:
            by_name[name] = "not installed"
    return by_name


def machine() -> dict[str, Any]:
    """Return the system, the processor type and the number of cores this process may use."""
    return {"system": platform.platform(), "processor": platform.machine(), "cores": cores()}


def cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
