"""The tables of `minise profile`."""

from collections.abc import Callable, Iterable

from rich.console import Group

from minise.bench.figures import meanwhile
from minise.bench.profile import Entry, Profile, ProfileSettings
from minise.bench.report import back_end, framed, heading, millis, plain_table, short
from minise.ops.wrap import FORWARD

LEAST = 1e-5  # seconds: below this floor it is the call itself that takes time


def ops_table(profile: Profile, settings: ProfileSettings) -> Group:
    """Return a line for each op and direction, the slowest first, and their sums."""
    table = plain_table()
    table.add_column("direction")
    for name in ("calls", "ms", "share", "floor ms", "times\nfloor"):
        table.add_column(name, justify="right")
    for (op, direction), entries in _grouped(profile, lambda e: (e.op, e.direction)):
        calls = sum(entry.calls for entry in entries)
        table.add_row(op, direction, str(calls), *_figures(entries, profile))
    table.add_section()
    table.add_row("all ops", "", *["", *_figures(profile.entries, profile)])
    outside = [millis(1000 * profile.outside), f"{profile.outside / profile.sum:.1%}"]
    table.add_row("outside of ops", "", "", *outside)
    table.add_row("step", "", "", millis(1000 * profile.sum), "100.0%")
    above = f"a training step by ops: {heading(settings.of_step)}, {back_end(settings.of_step)}"
    return framed(above, table, _caption(profile))


def layers_table(profile: Profile, settings: ProfileSettings) -> Group:
    """Return a line for each of the slowest layers."""
    grouped = _grouped(profile, lambda entry: (entry.layer, entry.op))
    count = min(settings.layers, len(grouped))
    table = plain_table()
    table.add_column("op")
    for name in ("forward\nms", "backward\nms", "share", "floor ms", "times\nfloor"):
        table.add_column(name, justify="right")
    for (layer, op), entries in grouped[:count]:
        ways: dict[bool, float] = {True: 0.0, False: 0.0}
        for entry in entries:
            ways[entry.direction == FORWARD] += 1000 * entry.seconds
        _, *rest = _figures(entries, profile)
        table.add_row(layer or "(net)", op, millis(ways[True]), millis(ways[False]), *rest)
    return framed(f"the slowest {count} of {len(grouped)} layers", table, "")


def _caption(profile: Profile) -> str:
    """Return what the floor is."""
    return (
        f"ms: median of the steps, whose whole took {millis(1000 * profile.whole)}.\n"
        "floor: the multiply-accumulates at the rate of a large matrix product, measured as "
        f"{short(profile.rates.macs / 1e9)} billion a second, or all arrays read and written once, "
        f"at {short(profile.rates.bytes / 1e9)} GB/s of a large copy, whichever takes longer. "
        "Arrays that are still in a cache can get below it.\n"
        "outside of ops: the optimiser, and Python between the calls.\n"
        f"{meanwhile(profile.others)}"
    )


def _grouped(
    profile: Profile, key: Callable[[Entry], tuple[str, str]]
) -> list[tuple[tuple[str, str], list[Entry]]]:
    """Return the entries by a key, the slowest group first."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in profile.entries:
        groups.setdefault(key(entry), []).append(entry)
    return sorted(groups.items(), key=lambda item: -sum(entry.seconds for entry in item[1]))


def _figures(entries: Iterable[Entry], profile: Profile) -> list[str]:
    """Return ms, share of the step, floor and how many times the floor."""
    entries = list(entries)
    seconds, floor = (sum(getattr(e, name) for e in entries) for name in ("seconds", "floor"))
    share = f"{seconds / profile.sum:.1%}"
    if floor < LEAST:
        return [millis(1000 * seconds), share, f"<{1000 * LEAST}" if floor else "0", ""]
    return [millis(1000 * seconds), share, millis(1000 * floor), f"{seconds / floor:.1f}"]
