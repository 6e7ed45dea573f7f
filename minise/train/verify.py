"""Check the files of a run for damage, and summarise their arrays by a hash.

Nothing is written, and no lock is needed: the run may still be training.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minise.atomic import TEMPORARY
from minise.checks import Array, StrPath, as_path
from minise.files import CHECKPOINT, NET, RUN_FILES, Damaged, File, read
from minise.train.config import CustomNet, read_config
from minise.train.lock import state
from minise.train.run_folder import RunFolder, example_in, not_a_folder, record_of

TRIES, PAUSE_SECONDS = 3, 0.1  # a file that is replaced while it is read is read again


class FileReport(NamedTuple):
    """The condition of a file of arrays."""

    path: str
    problem: str  # "" if it is intact and finite
    step: int | None = None
    epoch: int | None = None
    sha256: str = ""  # see digest


class Report(NamedTuple):
    """The condition of the files of a run; for a single file, only `files`."""

    path: str
    files: list[FileReport]
    problems: list[str]  # everything that is damaged, in these files and the others
    remarks: list[str]  # about files of killed runs, which are no damage
    lines: int | None = None  # complete lines of metrics.jsonl
    lock: str = ""


def digest(arrays: Mapping[str, Array]) -> str:
    """Return a SHA-256 of arrays that depends on nothing else.

    Parameters
    ----------
    arrays : mapping from str to ndarray
        Arrays by name, such as those of `files.read(path, CHECKPOINT)`: parameters, statistics and
        the optimiser's.

    Returns
    -------
    str
        64 hexadecimal digits: the hash of, for each array in the order of the names, one line of
        JSON, [name, dtype, shape], and the little-endian bytes in C order.
    """
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        shape = list(np.shape(arrays[name]))  # ascontiguousarray makes a scalar an array
        total.update(f"{json.dumps([name, array.dtype.name, shape])}\n".encode())
        total.update(array.data)
    return total.hexdigest()


def verify(run: StrPath) -> Report:
    """Check the checkpoints, config.json, metrics.jsonl and lock of a run.

    Parameters
    ----------
    run : str or path
        A run folder, or one file of a net or checkpoint (.safetensors).

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder, or the folder is not a run's.
    ValueError
        If the file is of another format, or was written by a newer version of minise.
    """
    path = as_path(run)
    check_run(path)
    if path.is_file():
        file, _ = _file_report(path)
        return Report(str(path), [file], [file.problem] if file.problem else [], [])
    for _ in range(TRIES):
        report = _folder_report(RunFolder(path))
        if not report.problems or not report.lock.startswith("held"):
            break
        time.sleep(PAUSE_SECONDS)  # the run may have cut its log back meanwhile
    return report


def check_run(path: Path) -> None:
    """Raise an error if a path is neither a file of arrays nor the folder of a run."""
    wanted = "expected the folder of a run or a file (.safetensors)"
    if path.is_file() and path.suffix == ".safetensors":
        return
    if not path.is_dir():
        raise not_a_folder(path, wanted)
    if not any((path / name).exists() for name in ("config.json", "metrics.jsonl", *RUN_FILES)):
        raise FileNotFoundError(f"{path} has no file of a run, {wanted}{example_in(path)}")


def _folder_report(folder: RunFolder) -> Report:
    condition, owner = state(folder)
    lock = condition
    if owner is not None:
        lock += f"{' by' if condition == 'held' else ', of'} process {owner.pid} of {owner.host}"
    files, problems, remarks, states = [], [], [], []
    for path in (folder.last, folder.previous, folder.best):
        if path.exists():
            report, content = _file_report(path)
            files.append(report)
            states += [content.texts.get("state")] if content else []
    problems += [file.problem for file in files if file.problem]
    if not folder.last.exists():
        remarks.append(f"{folder.last} does not exist")
    if problem := _problem_of_config(folder.path / "config.json"):
        (problems if files else remarks).append(problem)  # a run that has just begun has none
    lines, is_cut, wrong = _check_log(folder)
    problems += wrong[:3] + ([f"{len(wrong) - 3} more problems"] if len(wrong) > 3 else [])
    # those of the newest: a resume from it cuts the lines that others, such as best, have counted
    newest = next((state for state in states if isinstance(state, dict) and "lines" in state), {})
    if lines < newest.get("lines", 0) and not wrong:
        problems.append(f"{folder.metrics} has {lines} lines, expected at least {newest['lines']}")
    if condition != "held":
        names = sorted(path.name for path in folder.path.glob(TEMPORARY))
        remarks += [f"{folder.path / name} is a temporary file of a killed run" for name in names]
        if is_cut:
            remarks.append(f"{folder.metrics} ends within a line, as after a kill")
    return Report(str(folder.path), files, problems, remarks, lines, lock)


def _file_report(path: Path) -> tuple[FileReport, File | None]:
    """Return the condition of a file, and its content if it is intact."""
    for attempt in range(TRIES):
        try:
            file = read(path, CHECKPOINT, NET)
            break
        except Damaged as error:
            return FileReport(str(path), error.problem), None
        except FileNotFoundError as error:  # where files are replaced in two steps
            if attempt == TRIES - 1:
                return FileReport(str(path), str(error)), None
            time.sleep(PAUSE_SECONDS)
        except OSError as error:
            return FileReport(str(path), f"{path} cannot be read ({error.strerror})"), None
    progress = file.texts.get("progress")
    progress = progress if isinstance(progress, dict) else {}
    name = next((n for n in sorted(file.arrays) if not np.isfinite(file.arrays[n]).all()), None)
    problem = "" if name is None else f"{path} is not finite: {name}"
    step, epoch = progress.get("step"), progress.get("epoch")
    return FileReport(str(path), problem, step, epoch, digest(file.arrays)), file


def _problem_of_config(path: Path) -> str:
    """Return the reason why config.json is wrong, or ""."""
    try:
        read_config(path)
    except CustomNet:
        return ""
    except (OSError, ValueError, TypeError) as error:
        return str(error).replace(": pass the run's folder", ": copy it again")
    return ""


def _check_log(folder: RunFolder) -> tuple[int, bool, list[str]]:
    """Return metrics.jsonl's number of complete lines, whether another follows, and problems."""
    try:
        *lines, rest = folder.metrics.read_bytes().split(b"\n")
    except OSError as error:
        return 0, False, [f"{folder.metrics} cannot be read ({error.strerror})"]
    problems = [f"{folder.metrics}: line {n} {text}" for n, text in _wrong_lines(lines)]
    return len(lines), bool(rest), problems


def _wrong_lines(lines: list[bytes]) -> Iterator[tuple[int, str]]:
    """Yield the number of each wrong line and what is wrong.

    The steps of a kind increase from line to line, but a run that was resumed twice at the same
    step has two lines of the kind "resume". A line without a step is the only one of its kind.
    """
    last: dict[str, tuple[int, int]] = {}  # line and step by kind
    for number, line in enumerate(lines, 1):
        try:
            record = record_of(line)
        except ValueError as error:
            yield number, f"is {error}"
            continue
        kind, step = record["kind"], record.get("step", 0)
        if not isinstance(step, int) or isinstance(step, bool):
            yield number, f"has step {step!r}, expected an integer"
            continue
        before, previous = last.get(kind, (0, -1))
        if before and "step" not in record:
            yield number, f"is of the kind {kind}, as line {before}"
        elif step < previous + (kind != "resume"):
            yield number, f"({kind}) has step {step}, expected more than line {before}: {previous}"
        last[kind] = number, step
