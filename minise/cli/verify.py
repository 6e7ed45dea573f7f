"""The verb that checks the files of runs for damage: `minise verify`."""

from json import dumps
from pathlib import Path

import tyro
from rich.console import Console

from minise.checks import escaped
from minise.cli.words import Failure, misuse, say
from minise.train.verify import Report, check_run, verify


def verify_runs(runs: tyro.conf.Positional[tuple[Path, ...]], json: bool = False) -> int:
    """Check the files of a run for damage, and hash its arrays.

    verify reads every array of each checkpoint, config.json, metrics.jsonl and the lock, and writes
    nothing. Two checkpoints with the same SHA-256 have the same parameters, running statistics and
    arrays of the optimiser. Exit status 1 if a file is damaged or an array is not finite.

    Example: minise verify runs/se_resnet8-shapes10-1

    Args:
        runs: Run folders, such as runs/*, or files of a net or a checkpoint (.safetensors).
        json: Print a JSON list with one object for each run.
    """
    with misuse():
        if not runs:
            raise ValueError("verify: runs is empty, expected at least one run: pass runs/NAME")
        for run in runs:
            check_run(run)
        reports = [verify(run) for run in runs]
    if json:
        print(dumps([_as_dict(report) for report in reports], indent=2))
    else:
        console = Console()
        for report in reports:
            say(console, as_text(report))
    damaged = [report for report in reports if report.problems]
    if damaged:
        text = f"{damaged[0].problems[0]}{_remedy(damaged[0])}"
        raise Failure(f"verify: {len(damaged)} of {len(reports)} are damaged: {text}")
    return 0


def _remedy(report: Report) -> str:
    """Return the likely fix of the first problem of a report."""
    problem = report.problems[0]
    if problem.startswith(str(Path(report.path, "config.json"))):  # says what to do
        return ""
    if "cannot be read (" in problem:
        return ": check the file and its permissions"
    intact = [file.path for file in report.files if not file.problem]
    if intact and problem in [file.problem for file in report.files]:
        return f": copy it again, or use {' or '.join(intact)}"
    return ": copy it again"


def as_text(report: Report) -> str:
    """Return a report as text: a title, then indented lines."""
    lines = []
    for file in report.files:
        where = (
            "" if file.step is None else f", after step {file.step}, epochs finished: {file.epoch}"
        )
        lines.append(f"{Path(file.path).name}: {'damaged' if file.problem else 'ok'}{where}")
        lines += [f"  SHA-256 {file.sha256}"] if file.sha256 else []
    if report.lines is not None:
        count = "1 line" if report.lines == 1 else f"{report.lines:,} lines"
        lines.append(f"metrics.jsonl: {count}; lock: {report.lock}")
    lines += [f"damaged: {problem}" for problem in report.problems]
    lines += [f"remark: {remark}" for remark in report.remarks]
    title = f"{report.path}: {'damaged' if report.problems else 'ok'}"
    return "\n".join([escaped(title), *(f"  {escaped(line)}" for line in lines)])


def _as_dict(report: Report) -> dict[str, object]:
    return {**report._asdict(), "files": [file._asdict() for file in report.files]}
