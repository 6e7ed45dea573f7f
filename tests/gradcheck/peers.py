"""Compare gradient checkers on the same mistakes: mistakes caught, false alarms, time.

Every checker gets every mistake and the right backward at the same inputs. All run with their
default settings, on functions of the float arguments only; labels and masks are constants. A
checker that rejects both has caught nothing, so "told apart" counts the draws where it rejected the
wrong backward and passed the right one.

In the row "minise", the checker knows that the reference ops take complex numbers, which the other
checkers do not. Its rows "differences" show how it checks an unknown forward, with and without
branches.

A checker is a function from a problem to a call without arguments that returns True if the backward
passed. Only that call is timed, on one thread, after one untimed run on every mistake. With a wrong
backward the time includes the checker's diagnosis. jax compiles every function that it calls back,
which takes most of a first check; its second row checks the same function again.

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
    """A forward of float arrays only, a right or wrong backward, and inputs."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    inputs: list[np.ndarray]
    rng: np.random.Generator
    branches: Callable[[Any], Any] | None


class Outcome(NamedTuple):
    """The results of a checker for one mistake and one seed."""

    name: str
    caught: bool  # the wrong backward was rejected
    false_alarm: bool  # the right backward was rejected
    seconds_right: float
    seconds_wrong: float


Checker = Callable[[Problem], Callable[[], bool]]


def problem_of(mistake: Any, seed: int, *, right: bool) -> Problem:
    """Return a problem with the right or the wrong backward of a mistake, at the same inputs."""
    forward, right_backward, wrong_backward, inputs, rng = pair(mistake, seed)
    backward = right_backward if right else wrong_backward
    floats = [k for k, x in enumerate(inputs) if x is not None and x.dtype.kind == "f"]

    def float_forward(*values: Any) -> Any:
        arrays = list(inputs)
        for k, value in zip(floats, values, strict=True):
            arrays[k] = value
        return forward(*arrays)

    def float_backward(dout: Any, cache: Any) -> tuple[Any, ...]:
        gradients = backward(dout, cache)
        return tuple(gradients[k] for k in floats)

    float_forward.complex_step = forward.complex_step
    branches = functions(reference, mistake.case.op, {})[2]
    return Problem(float_forward, float_backward, [inputs[k] for k in floats], rng, branches)


def minise_checker(*, branches: bool = False, **settings: Any) -> Checker:
    """Return minise's check, with or without the branches of forward."""

    def prepare(problem: Problem) -> Callable[[], bool]:
        forward, backward, inputs, rng, branches_of_cache = problem
        options = {**settings, "branches": branches_of_cache} if branches else settings
        return lambda: check(forward, backward, inputs, rng, **options).ok

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
                out, ctx.cache = problem.forward(*(x.detach().numpy() for x in inputs))
                return tensor(out)

            @staticmethod
            def backward(ctx: Any, dout: Any) -> Any:
                return tuple(map(tensor, problem.backward(dout.detach().numpy(), ctx.cache)))

        inputs = [tensor(x).requires_grad_() for x in problem.inputs]
        gradcheck = torch.autograd.gradcheck
        return lambda: gradcheck(Op.apply, inputs, raise_exception=False, **settings)

    return prepare


def jax_checker() -> Checker:
    """Return jax's check_grads of a custom_vjp whose callbacks are the NumPy pair."""
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)

    def prepare(problem: Problem) -> Callable[[], bool]:
        f = jax_function(jax, problem)

        def passes() -> bool:
            try:
                check_grads(f, problem.inputs, order=1, modes=["rev"])
            except AssertionError:
                return False
            return True

        return passes

    return prepare


def again(checker: Checker) -> Checker:
    """Return a checker that is timed on its second check of the same function."""

    def prepare(problem: Problem) -> Callable[[], bool]:
        passes = checker(problem)
        passes()
        return passes

    return prepare


def jax_function(jax: Any, problem: Problem) -> Callable[..., Any]:
    """Return a jax function whose value and derivative are callbacks of the NumPy pair.

    The cache has flags and names that jax cannot pass on, so it stays in a list here, which saves
    backward a second forward.
    """
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in problem.inputs]
    out = problem.forward(*problem.inputs)[0]
    shape = jax.ShapeDtypeStruct(out.shape, out.dtype)
    cache: list[Any] = [None]

    def forward(*inputs: Any) -> Any:
        return problem.forward(*map(np.asarray, inputs))[0]

    def forward_with_cache(*inputs: Any) -> Any:
        out, cache[0] = problem.forward(*map(np.asarray, inputs))
        return out

    def backward(dout: Any) -> Any:
        return tuple(map(np.asarray, problem.backward(np.asarray(dout), cache[0])))

    @jax.custom_vjp
    def f(*inputs: Any) -> Any:
        return jax.pure_callback(forward, shape, *inputs)

    f.defvjp(
        lambda *inputs: (jax.pure_callback(forward_with_cache, shape, *inputs), None),
        lambda _, dout: jax.pure_callback(backward, tuple(shapes), dout),
    )
    return f


def checkers() -> dict[str, Checker]:
    """Return all checkers by their row in the table."""
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
    """Return whether a backward passed, and the time of the check in seconds."""
    passes = prepare(problem_of(mistake, seed, right=right))
    started = time.perf_counter()
    passed = passes()
    return passed, time.perf_counter() - started


def outcome(prepare: Checker, name: str, seed: int) -> Outcome:
    """Return a checker's results for the right and the wrong backward of a mistake."""
    right, seconds_right = timed(prepare, MISTAKES[name], seed, right=True)
    wrong, seconds_wrong = timed(prepare, MISTAKES[name], seed, right=False)
    return Outcome(name, not wrong, not right, seconds_right, seconds_wrong)


def run(prepare: Checker, seeds: int, max_seconds: float) -> tuple[int, list[Outcome]]:
    """Return the number of seeds that a checker completed, and all outcomes.

    No seed starts after max_seconds.
    """
    for name in MISTAKES:
        outcome(prepare, name, 0)  # warm-up
    outcomes: list[Outcome] = []
    started = time.perf_counter()
    for seed in range(seeds):
        outcomes += [outcome(prepare, name, seed) for name in MISTAKES]
        if time.perf_counter() - started > max_seconds:
            return seed + 1, outcomes
    return seeds, outcomes


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return the counts, medians and totals over the outcomes of one checker."""
    right = [o.seconds_right for o in outcomes]
    wrong = [o.seconds_wrong for o in outcomes]
    return {
        "draws": len(outcomes),
        "caught": sum(o.caught for o in outcomes),
        "false_alarms": sum(o.false_alarm for o in outcomes),
        "told_apart": sum(o.caught and not o.false_alarm for o in outcomes),
        "missed_by_name": Counter(o.name for o in outcomes if not o.caught),
        "false_alarms_by_name": Counter(o.name for o in outcomes if o.false_alarm),
        "median_seconds_right": statistics.median(right),
        "median_seconds_wrong": statistics.median(wrong),
        "total_seconds_right": sum(right),
        "total_seconds_wrong": sum(wrong),
    }


def compare(seeds: int, max_seconds: float) -> dict[str, Any]:
    """Return the results of every checker, over all mistakes and over mistakes without ties."""
    results = {}
    for name, prepare in checkers().items():
        completed, outcomes = run(prepare, seeds, max_seconds)
        untied = [o for o in outcomes if not MISTAKES[o.name].integers]
        results[name] = {
            "seeds": completed,
            "all": summary(outcomes),
            "without_ties": summary(untied),
        }
    return results


def environment() -> dict[str, Any]:
    """Return the date, machine, package versions and command of this run."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": (models or [platform.processor()])[0], "cores": os.cpu_count()},
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "command": shlex.join(["python", "-m", "tests.gradcheck.peers", *sys.argv[1:]]),
    }


def table(results: dict[str, Any], which: str) -> Table:
    """Return a table of the results with one row per checker."""
    rows = Table(title=f"Mistakes: {which.replace('_', ' ')}")
    rows.add_column("checker", no_wrap=True)
    titles = ("seeds", "caught", "missed", "false alarms", "told apart")
    for title in (*titles, "ms, right", "ms, wrong", "s, all right", "s, all wrong"):
        rows.add_column(title, justify="right")
    for name, result in results.items():
        totals = result[which]
        rows.add_row(
            name,
            str(result["seeds"]),
            f"{totals['caught']}/{totals['draws']}",
            str(len(totals["missed_by_name"])),
            str(totals["false_alarms"]),
            f"{totals['told_apart']}/{totals['draws']}",
            f"{1e3 * totals['median_seconds_right']:.2f}",
            f"{1e3 * totals['median_seconds_wrong']:.2f}",
            f"{totals['total_seconds_right']:.1f}",
            f"{totals['total_seconds_wrong']:.1f}",
        )
    return rows


def show(console: Console, results: dict[str, Any]) -> None:
    """Print both tables, and the names of the missed mistakes and of the false alarms."""
    for which in ("all", "without_ties"):
        console.print(table(results, which))
    for name, result in results.items():
        for key in ("missed_by_name", "false_alarms_by_name"):
            for mistake, count in result["all"][key].most_common():
                event = "missed" if key == "missed_by_name" else "false alarm at"
                console.print(f"{name}: {event} {mistake} ({count} of {result['seeds']} seeds)")


def main() -> None:
    """Run all checkers, print the comparison and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description="Compare gradient checkers on known mistakes.")
    parser.add_argument("--seeds", type=int, default=20, help="draws of every mistake")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument(
        "--limit",
        type=float,
        default=360.0,
        dest="max_seconds",
        metavar="SECONDS",
        help="start no further draws of a checker after this time",
    )
    settings = parser.parse_args()
    with threadpool_limits(1), np.errstate(divide="ignore", invalid="ignore"):
        results = compare(settings.seeds, settings.max_seconds)
    show(Console(width=None if sys.stdout.isatty() else 140), results)
    if settings.out:
        document = {**environment(), "seeds": settings.seeds, "checkers": results}
        settings.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
