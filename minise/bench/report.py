"""The tables of `minise bench cpu`, and the same figures as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from minise.bench import machine
from minise.bench.compare import BASE, Comparison, Outcome
from minise.bench.figures import Choice, Spread, choose, ratios, spread, turn_medians
from minise.bench.settings import Settings, to_dict
from minise.bench.works import title


def figures(outcome: Outcome) -> tuple[Choice, dict[str, dict[str, Spread]]]:
    """Return which rounds count, and of each contestant its time in ms and its ratio to minise."""
    choice = choose(outcome.rounds)
    kept = [outcome.rounds[i] for i in choice.kept]
    return choice, {
        name: {
            "ms": spread([1000 * seconds for seconds in turn_medians(kept, name)]),
            "ratio": spread(ratios(kept, name, BASE)),
        }
        for name in outcome.memory
    }


def whole_table(outcome: Outcome, comparison: Comparison) -> Group:
    """Return the table of a training step, of inference or of a block."""
    settings, starts = comparison.settings, comparison.starts
    choice, found = figures(outcome)
    with_starts = bool(starts) and outcome is comparison.outcomes[0]
    table = plain_table()
    for name in ("ms", "img/s", "times minise's ms", "MiB"):
        table.add_column(name, justify="right")
    if with_starts:
        table.add_column("start s\ncold, warm", justify="right", no_wrap=True)
    for name, figure in found.items():
        row = [
            _label(name, settings),
            millis(figure["ms"].median),
            f"{1000 * settings.batch / figure['ms'].median:.0f}",
            _ratio(figure["ratio"], name),
            f"{outcome.memory[name]['mib']:.0f}",
        ]
        if with_starts:
            row.append(f"{starts[name]['cold']:.1f}, {starts[name]['warm']:.1f}")
        table.add_row(*row)
    where = shared(settings) if outcome.work["kind"] == "block" else heading(settings)
    return framed(f"{title(outcome.work)}: {where}", table, choice.sentence)


def ops_table(outcomes: Sequence[Outcome], settings: Settings) -> Group:
    """Return the table of single ops, one a row."""
    names = [name for name in (BASE, *settings.against) if any(name in o.memory for o in outcomes)]
    table = plain_table()
    for name in names:
        table.add_column(name.replace("-", "-\n", 1), justify="right")
    for outcome in outcomes:
        choice, found = figures(outcome)
        cells = []
        for name in names:
            figure = found.get(name)
            if name == BASE:
                mark = "~" if choice.doubtful else ""
                cells.append(mark + millis(found[name]["ms"].median))
            else:
                cells.append(_times(figure["ratio"].median) if figure else "")
        table.add_row(title(outcome.work), *cells)
    below = "ms of minise; of the others, how many times as long they take.\n"
    return framed(
        f"ops, forward + backward: {heading(settings)}", table, below + _disturbed(outcomes)
    )


def notes(comparison: Comparison) -> str:
    """Return what the tables' columns mean, and who is not in them."""
    lines = []
    hows = {memory["how"] for o in comparison.outcomes for memory in o.memory.values()}
    wholes = any(outcome.work["kind"] != "op" for outcome in comparison.outcomes)
    if wholes:
        lines += [
            "ms: median of the rounds. times minise's ms: how many times as long as minise, median "
            "(and quartiles) of the ratios within a round.",
            f"MiB: what the work needs besides net and inputs: {' or '.join(sorted(hows))}.",
        ]
    if any(outcome.work["kind"] == "block" for outcome in comparison.outcomes):
        lines.append("Blocks are timed forward + backward, with the gradients of their parameters.")
    if wholes and comparison.starts:
        lines.append(
            "start: from the start of a process to the end of its first run; cold with an empty "
            "cache of compiled code, warm with what the cold one left."
        )
    lines += [f"{name}: {reason}" for name, reason in comparison.absent.items()]
    return "\n".join(lines)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return every figure of a comparison, with what is needed to repeat it."""
    return {
        **machine.circumstances(),
        "settings": to_dict(comparison.settings),
        "absent": comparison.absent,
        "start_seconds": comparison.starts,
        "works": [_outcome_json(outcome) for outcome in comparison.outcomes],
    }


def plain_table() -> Table:
    """Return an empty table with a first column of names."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    return table


def framed(heading: str, table: Table, below: str) -> Group:
    """Return a table with words above and below, which are as wide as the terminal."""
    return Group(Text(heading, "bold"), table, Text(below + "\n" if below else ""))


def short(number: float) -> str:
    """Return a number with three digits, and larger ones whole.

    Examples
    --------
    >>> [short(number) for number in (0.012345, 1.5, 104.4, 12345.6)]
    ['0.0123', '1.50', '104', '12,346']
    """
    return f"{number:,.0f}" if number >= 100 else f"{number:#.3g}"


def millis(ms: float) -> str:
    """Return milliseconds, to a microsecond at the finest.

    Examples
    --------
    >>> [millis(ms) for ms in (0.0123456, 1.5, 2345.6)]
    ['0.012', '1.50', '2,346']
    """
    return short(ms) if ms >= 1 else f"{ms:.3f}"


def heading(settings: Settings) -> str:
    """Return what was asked, in one line."""
    se = f", reduction {settings.reduction}" if settings.net.startswith("se_") else ""
    return f"{settings.net}{se}, {shared(settings)}"


def shared(settings: Settings) -> str:
    """Return what was asked beside the net."""
    threads = "1 thread" if settings.threads == 1 else f"{settings.threads} threads"
    return f"batch {settings.batch}, {settings.dtype}, {threads}"


def back_end(settings: Settings) -> str:
    """Return which back end of minise is timed, and its algorithm where one is chosen."""
    auto = settings.algorithm == "auto"
    return settings.ops if auto else f"{settings.ops}, {settings.algorithm}"


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    choice, found = figures(outcome)
    return {
        "title": title(outcome.work),
        "work": outcome.work,
        "contestants": {
            name: {
                "ms": figure["ms"]._asdict(),
                "ratio_to_minise": figure["ratio"]._asdict(),
                "memory": outcome.memory[name],
                "first": outcome.firsts[name]._asdict(),
            }
            for name, figure in found.items()
        },
        "rounds_kept": choice.kept,
        "rounds_disturbed": choice.disturbed,
        "others_at_most_cores": choice.others,
        "verdict": choice.sentence,
        "rounds": [{name: asdict(t) for name, t in one.items()} for one in outcome.rounds],
    }


def _label(name: str, settings: Settings) -> str:
    return f"minise ({back_end(settings)})" if name == BASE else name


def _ratio(ratio: Spread, name: str) -> str:
    if name == BASE:
        return "1"
    return f"{_times(ratio.median)} ({_times(ratio.lower)}-{_times(ratio.upper)})"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.1g}"


def _disturbed(outcomes: Sequence[Outcome]) -> str:
    """Return in one sentence what others did during all ops."""
    choices = [choose(outcome.rounds) for outcome in outcomes]
    known = [choice.others for choice in choices if choice.others is not None]
    if not known:
        return choices[0].sentence
    rounds = sum(len(outcome.rounds) for outcome in outcomes)
    disturbed = sum(len(choice.disturbed) for choice in choices)
    doubtful = sum(choice.doubtful for choice in choices)
    text = f"Others disturbed {disturbed} of {rounds} rounds (at most {max(known):.2f} of a core)"
    if doubtful:
        return f"{text}; do not trust the {doubtful} ops marked ~, of which most rounds were."
    return text + ("; the figures leave them out." if disturbed else ".")
