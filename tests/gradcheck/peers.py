"""Compare gradient checkers on the same mistakes: what each catches, how falsely, how fast.

Every checker meets every mistake at the same inputs, and beside it the right backward, which it has
to pass. All run at their defaults, on functions of the float arguments alone; labels and masks are
filled in. Who rejects both has not caught anything, so "told apart" counts the draws where the
wrong backward was rejected and the right one passed.

minise's default knows that its reference ops take complex numbers, which no other checker is told;
its differences are what it does for a foreign forward, with and without its branches.

A checker is a function that takes a forward, a backward and the inputs to a call without arguments,
which returns whether the backward passed. That call alone is timed, one thread, after one untimed
run on every mistake. The right backward's time is that of a check; a wrong one's has the checker's
search for an explanation in it. jax compiles every function that it calls back, which takes most of
a first check, so it has a second row: the same, checked again.

    python -m tests.gradcheck.peers --seeds 20 --out peers.json
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from minise.contract.spec import MISTAKES
from minise.gradcheck import check
from minise.ops import reference
from tests.ops.cases import functions
from tests.ops.test_mistakes import pair

PACKAGES = ("numpy", "torch", "jax", "jaxlib", "minise")


class Problem(NamedTuple):
    """A forward of floats alone, a backward that may be wrong, and where to check it."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    inputs: list[np.ndarray]
    rng: np.random.Generator
    branches: Callable[[Any], Any] | None


class Outcome(NamedTuple):
    """What a checker said about one mistake at one seed."""

    name: str
    caught: bool
    alarm: bool  # the right backward was rejected
    seconds_right: float
    seconds_wrong: float


Checker = Callable[[Problem], Callable[[], bool]]


def problem_of(mistake: Any, seed: int, *, right: bool) -> Problem:
    """Return the right or the wrong backward of a mistake, with the same draws for both."""
    forward, good, bad, inputs, rng = pair(mistake, seed)
    backward = good if right else bad
    floats = [k for k, one in enumerate(inputs) if one is not None and one.dtype.kind == "f"]

    def of_floats(*values: Any) -> Any:
        every = list(inputs)
        for k, value in zip(floats, values, strict=True):
            every[k] = value
        return forward(*every)

    def to_floats(dout: Any, cache: Any) -> tuple[Any, ...]:
        gradients = backward(dout, cache)
        return tuple(gradients[k] for k in floats)

    of_floats.complex_step = forward.complex_step
    branches = functions(reference, mistake.case.op, {})[2]
    return Problem(of_floats, to_floats, [inputs[k] for k in floats], rng, branches)


def minise_checker(*, branches: bool = False, **settings: Any) -> Checker:
    """Return minise's check, with or without the branches of forward."""

    def prepare(problem: Problem) -> Callable[[], bool]:
        forward, backward, inputs, rng, known = problem
        every = {**settings, "branches": known} if branches else settings
        return lambda: check(forward, backward, inputs, rng, **every).ok

    return prepare


def torch_checker(**settings: Any) -> Checker:
    """Return torch's gradcheck of an autograd function that calls the NumPy pair."""
    import torch

    torch.set_num_threads(1)

    def tensor(array: Any) -> Any:
        return torch.from_numpy(np.array(array, order="C"))

    def prepare(problem: Problem) -> Callable[[], bool]:
        class Op(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *inputs: Any) -> Any:
                out, ctx.kept = problem.forward(*(one.detach().numpy() for one in inputs))
                return tensor(out)

            @staticmethod
            def backward(ctx: Any, dout: Any) -> Any:
                return tuple(map(tensor, problem.backward(dout.detach().numpy(), ctx.kept)))

        inputs = [tensor(one).requires_grad_() for one in problem.inputs]
        gradcheck = torch.autograd.gradcheck
        return lambda: gradcheck(Op.apply, inputs, raise_exception=False, **settings)

    return prepare


def jax_checker() -> Checker:
    """Return jax's check_grads of a custom_vjp that calls the NumPy pair back."""
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)

    def prepare(problem: Problem) -> Callable[[], bool]:
        f = called_back(jax, problem)

        def passes() -> bool:
            try:
                check_grads(f, problem.inputs, order=1, modes=["rev"])
            except AssertionError:
                return False
            return True

        return passes

    return prepare


def again(checker: Checker) -> Checker:
    """Return a checker of functions that it has checked before."""

    def prepare(problem: Problem) -> Callable[[], bool]:
        passes = checker(problem)
        passes()
        return passes

    return prepare


def called_back(jax: Any, problem: Problem) -> Callable[..., Any]:
    """Return a function of jax whose derivative is the NumPy backward.

    The cache has flags and names in it, which jax does not carry. It stays in a list, which saves
    backward a second forward.
    """
    shapes = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in problem.inputs]
    out = problem.forward(*problem.inputs)[0]
    shape = jax.ShapeDtypeStruct(out.shape, out.dtype)
    kept: list[Any] = [None]

    def run(*inputs: Any) -> Any:
        return problem.forward(*map(np.asarray, inputs))[0]

    def run_and_keep(*inputs: Any) -> Any:
        out, kept[0] = problem.forward(*map(np.asarray, inputs))
        return out

    def back(dout: Any) -> Any:
        return tuple(map(np.asarray, problem.backward(np.asarray(dout), kept[0])))

    @jax.custom_vjp
    def f(*inputs: Any) -> Any:
        return jax.pure_callback(run, shape, *inputs)

    f.defvjp(
        lambda *inputs: (jax.pure_callback(run_and_keep, shape, *inputs), None),
        lambda _, dout: jax.pure_callback(back, tuple(shapes), dout),
    )
    return f


def checkers() -> dict[str, Checker]:
    """Return all checkers by name."""
    differences = dict(mode="directional")
    return {
        "minise": minise_checker(),
        "minise, differences, branches": minise_checker(branches=True, **differences),
        "minise, differences": minise_checker(**differences),
        "torch": torch_checker(),
        "torch, fast_mode": torch_checker(fast_mode=True),
        "jax": jax_checker(),
        "jax, again": again(jax_checker()),
    }


def timed(prepare: Checker, mistake: Any, seed: int, *, right: bool) -> tuple[bool, float]:
    """Return whether a backward passed, and the seconds of the check alone."""
    passes = prepare(problem_of(mistake, seed, right=right))
    started = time.perf_counter()
    passed = passes()
    return passed, time.perf_counter() - started


def outcome(prepare: Checker, name: str, seed: int) -> Outcome:
    """Return what a checker says about the right and the wrong backward of a mistake."""
    right, seconds_right = timed(prepare, MISTAKES[name], seed, right=True)
    wrong, seconds_wrong = timed(prepare, MISTAKES[name], seed, right=False)
    return Outcome(name, not wrong, not right, seconds_right, seconds_wrong)


def run(prepare: Checker, seeds: int, limit: float) -> tuple[int, list[Outcome]]:
    """Return how many seeds a checker finished before the limit in seconds, and all outcomes."""
    for name in MISTAKES:
        outcome(prepare, name, 0)  # warms up
    found: list[Outcome] = []
    started = time.perf_counter()
    for seed in range(seeds):
        found += [outcome(prepare, name, seed) for name in MISTAKES]
        if time.perf_counter() - started > limit:
            return seed + 1, found
    return seeds, found


def figures(found: list[Outcome]) -> dict[str, Any]:
    """Return what the outcomes of one checker add up to."""
    right = [one.seconds_right for one in found]
    wrong = [one.seconds_wrong for one in found]
    return {
        "draws": len(found),
        "caught": sum(one.caught for one in found),
        "false_alarms": sum(one.alarm for one in found),
        "told_apart": sum(one.caught and not one.alarm for one in found),
        "missed_by_name": Counter(one.name for one in found if not one.caught),
        "false_alarms_by_name": Counter(one.name for one in found if one.alarm),
        "median_seconds_right": statistics.median(right),
        "median_seconds_wrong": statistics.median(wrong),
        "total_seconds_right": sum(right),
        "total_seconds_wrong": sum(wrong),
    }


def compare(seeds: int, limit: float) -> dict[str, Any]:
    """Return the figures of every checker, over all mistakes and over those without ties."""
    compared = {}
    for name, prepare in checkers().items():
        done, found = run(prepare, seeds, limit)
        untied = [one for one in found if not MISTAKES[one.name].integers]
        compared[name] = {"seeds": done, "all": figures(found), "without_ties": figures(untied)}
    return compared


def surroundings() -> dict[str, Any]:
    """Return when, where and with what this runs."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": (models or [platform.processor()])[0], "cores": os.cpu_count()},
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "command": shlex.join(["python", "-m", "tests.gradcheck.peers", *sys.argv[1:]]),
    }


def table(compared: dict[str, Any], which: str) -> Table:
    """Return the figures as a table, a checker a row."""
    result = Table(title=f"Mistakes: {which.replace('_', ' ')}")
    result.add_column("checker", no_wrap=True)
    titles = ("seeds", "caught", "missed", "false alarms", "told apart")
    for title in (*titles, "ms, right", "ms, wrong", "s, all right", "s, all wrong"):
        result.add_column(title, justify="right")
    for name, one in compared.items():
        of = one[which]
        result.add_row(
            name,
            str(one["seeds"]),
            f"{of['caught']}/{of['draws']}",
            str(len(of["missed_by_name"])),
            str(of["false_alarms"]),
            f"{of['told_apart']}/{of['draws']}",
            f"{1e3 * of['median_seconds_right']:.2f}",
            f"{1e3 * of['median_seconds_wrong']:.2f}",
            f"{of['total_seconds_right']:.1f}",
            f"{of['total_seconds_wrong']:.1f}",
        )
    return result


def show(console: Console, compared: dict[str, Any]) -> None:
    """Print both tables, and by name what each checker missed or rejected falsely."""
    for which in ("all", "without_ties"):
        console.print(table(compared, which))
    for name, one in compared.items():
        for key in ("missed_by_name", "false_alarms_by_name"):
            for mistake, count in one["all"][key].most_common():
                what = "missed" if key == "missed_by_name" else "false alarm at"
                console.print(f"{name}: {what} {mistake} ({count} of {one['seeds']} seeds)")


def main() -> None:
    """Run all checkers, print the comparison and write it where asked."""
    parser = argparse.ArgumentParser(description="Compare gradient checkers on known mistakes.")
    parser.add_argument("--seeds", type=int, default=20, help="draws of every mistake")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    parser.add_argument(
        "--limit", type=float, default=360.0, help="seconds after which a checker starts no seed"
    )
    settings = parser.parse_args()
    with threadpool_limits(1), np.errstate(divide="ignore", invalid="ignore"):
        compared = compare(settings.seeds, settings.limit)
    show(Console(width=None if sys.stdout.isatty() else 140), compared)
    if settings.out:
        every = {**surroundings(), "seeds": settings.seeds, "checkers": compared}
        settings.out.write_text(json.dumps(every, indent=2) + "\n")


if __name__ == "__main__":
    main()
