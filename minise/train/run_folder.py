"""The run folder: config.json, metrics.jsonl and the checkpoints last, previous and best."""

import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from minise import __version__
from minise.atomic import flush, flush_folder, write_whole, writing
from minise.checks import StrPath, as_path, check_integer, did_you_mean
from minise.files import RUN_FILES
from minise.train.lock import locked, remove_stale_files

PACKAGES = ("minise", "numpy", "numba", "safetensors", "rich", "threadpoolctl", "tyro")


class RunFolder:
    """The files of a run.

    Parameters
    ----------
    path : Path
        An existing folder. A relative path names the same folder after a change of the current one.

    Attributes
    ----------
    lines : int
        Complete lines of metrics.jsonl.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._absolute = path, Path(os.path.abspath(path))
        self.lines = _lines_of(self.metrics)
        self._lock = ExitStack()
        self._is_locked = False

    def lock(self) -> None:
        """Refuse other writers until `unlock`; see lock.py."""
        if not self._is_locked:
            self._lock.enter_context(locked(self))
            self._is_locked = True

    def unlock(self) -> None:
        """Let others write to this folder."""
        self._is_locked = False
        self._lock.close()

    @contextmanager
    def written(self) -> Iterator[None]:
        """Refuse other writers in this block, at the end of which they may write."""
        self.lock()
        try:
            yield
        finally:
            self.unlock()

    @property
    def path(self) -> Path:
        """The folder as the user wrote it, or its absolute path if the current folder changed."""
        try:
            unchanged = os.path.abspath(self._path) == str(self._absolute)
        except FileNotFoundError:  # the current folder is removed
            unchanged = False
        return self._path if unchanged else self._absolute

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / RUN_FILES[0]

    @property
    def previous(self) -> Path:
        """The checkpoint before the newest one."""
        return self.path / RUN_FILES[1]

    @property
    def best(self) -> Path:
        """The checkpoint of the epoch with the best validation accuracy."""
        return self.path / RUN_FILES[2]

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

    @property
    def metrics(self) -> Path:
        """The log: metrics.jsonl, one JSON object on each line."""
        return self.path / "metrics.jsonl"

    def log(self, kind: str, **values: Any) -> None:
        """Append one line of strict JSON to metrics.jsonl; see as_strict_json."""
        line = json.dumps(as_strict_json({"kind": kind, **values}), allow_nan=False)
        rest = f"{line}\n".encode()
        with writing(self.metrics, len(rest)), self.metrics.open("ab", buffering=0) as file:
            while rest:  # a buffer would write its content again after a failure
                rest = rest[file.write(rest) :]
        self.lines += 1

    def records(self) -> list[dict[str, Any]]:
        """Return the records in the complete lines of metrics.jsonl.

        Raises
        ------
        ValueError
            If a line is not a JSON object; the message has its number.
        """
        records = []
        content = self.metrics.read_bytes() if self.metrics.exists() else b""
        for number, line in enumerate(content.split(b"\n")[:-1], 1):
            try:
                records.append(record_of(line))
            except ValueError as error:
                raise ValueError(
                    f"{self.metrics} is altered: line {number} is {error}: remove it"
                ) from None
        return records

    def sync_log(self) -> None:
        """Flush metrics.jsonl to disk."""
        with writing(self.metrics), self.metrics.open("ab") as file:
            flush(file.fileno())

    def cut_log(self, lines: int) -> str:
        """Cut metrics.jsonl back to its first lines; return a warning if it has fewer, or ""."""
        warning = ""
        with writing(self.metrics), self.metrics.open("a+b") as file:
            file.seek(0)
            complete = [line for line in file if line.endswith(b"\n")]
            if len(complete) < lines:
                warning = (
                    f"{self.metrics} has {len(complete)} complete lines, expected at least "
                    f"{lines}: the others are lost"
                )
            self.lines = min(lines, len(complete))
            file.truncate(sum(map(len, complete[:lines])))
            os.fsync(file.fileno())
        return warning


def _lines_of(log: Path) -> int:
    """Return the number of complete lines of a file, 0 if there is none."""
    if not log.is_file():
        return 0
    with log.open("rb") as file:
        return sum(line.endswith(b"\n") for line in file)


def record_of(line: bytes) -> dict[str, Any]:
    """Return the record in a line of metrics.jsonl; raise ValueError for other content."""
    try:
        record = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        raise ValueError("no JSON object with a kind")
    return record


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are not JSON


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


def from_strict_json(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record that as_strict_json has converted."""
    texts = record.get("not_finite", {})
    return {k: v for k, v in record.items() if k != "not_finite"} | {
        name: float(text) for name, text in texts.items()
    }


def open(path: StrPath) -> RunFolder:
    """Return the folder of an existing run, unchanged.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or it has no config.json or no checkpoint.
    NotADirectoryError
        If path is a file.
    """
    path = as_path(path)
    wanted = "expected the folder of a run"
    if not path.is_dir():
        raise not_a_folder(path, wanted)
    has_config = (path / "config.json").is_file()
    has_checkpoint = any((path / name).is_file() for name in RUN_FILES)
    if not has_config or not has_checkpoint:
        if has_config:
            text = (
                f"{path} has no checkpoint, {wanted}: repeat it with minise train --config {path}"
            )
            raise FileNotFoundError(text)
        remedy = ": copy the file again" if has_checkpoint else example_in(path)
        remedy = remedy or ": pass a folder such as runs/NAME"
        raise FileNotFoundError(f"{path} has no config.json, {wanted}{remedy}")
    return RunFolder(path)


def example_in(path: Path) -> str:
    """Return the remedy for a folder that contains runs, or ""."""
    runs = sorted(path.glob("*/config.json"))
    return f": pass a run such as {runs[-1].parent}" if runs else ""


def not_a_folder(path: Path, wanted: str) -> OSError:
    """Return the error for a path that is a file or does not exist."""
    remedy = ": pass a folder such as runs/NAME"
    if os.path.lexists(path):
        if any((path.parent / name).exists() for name in ("config.json", *RUN_FILES)):
            remedy = f": pass {path.parent}"
        return NotADirectoryError(f"{path} is a file, {wanted}{remedy}")
    near = did_you_mean(path.name, os.listdir(path.parent) if path.parent.is_dir() else [])
    remedy = near or example_in(path.parent) or remedy
    return FileNotFoundError(f"{path} does not exist, {wanted}{remedy}")


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
        return _made(out / name)
    for number in range(1, 1_000_000):
        path = out / f"{stem}-{number}"
        if not path.exists():
            with suppress(FileExistsError):  # another process has made it meanwhile
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
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True)
        log = path / "metrics.jsonl"
        try:
            log.touch()
            for folder in missing:
                with suppress(PermissionError):  # a folder that may be written and not read
                    flush_folder(folder.parent)
        except BaseException:
            with suppress(OSError):
                log.unlink(missing_ok=True)
                path.rmdir()
            raise
    except OSError as error:
        if isinstance(error, FileExistsError) and os.path.lexists(path):  # not out, a broken link
            text = f"{path} exists already: choose another name, or remove it"
            raise FileExistsError(text) from None
        reason = error.strerror or error
        raise OSError(
            f"run folder {path} cannot be written ({reason}): choose another folder by out"
        ) from None
    remove_stale_files(path.parent)
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
