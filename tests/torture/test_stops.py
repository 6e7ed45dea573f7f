"""Runs that signals stop, once or twice, end with one line; resumed, they end bit-identically."""

import random
import shlex
import signal

import pytest

from tests.torture.kill import Growth, in_function, run, run_until_done
from tests.torture.runs import (
    check_end,
    check_log,
    check_readable,
    go_on,
    python,
    resume_arguments,
    train_arguments,
)

NUMBERS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def check_stopped(path, life):
    """Check a run that a signal has stopped, or that had ended before."""
    assert life.status in (0, *(128 + number for number in NUMBERS)), life
    lines = life.err.splitlines()
    assert len(lines) == (life.status != 0), life.err
    if lines:
        assert "interrupted" in lines[0]
        assert "minise resume" in lines[0]
    check_readable(path)
    check_log(path)


def stopped_at_random(data, path, alone, draws, stops, pauses):
    """Stop a run by one signal, or by one after each pause, and let it end."""
    rng, first = random.Random(draws), train_arguments(data, path)

    def instants(lives):
        if len(lives) >= stops:
            return None
        log = path / "metrics.jsonl"
        return [Growth(log, rng.randint(1, 8), rng.uniform(0, 0.08)), *pauses]

    lives = run_until_done(
        python(first),
        lambda life: python(go_on(path, first)),
        instants,
        number=[rng.choice(NUMBERS) for _ in range(1 + len(pauses))],
        check=lambda life: check_stopped(path, life),
    )
    check_end(path, alone(), lives[-1])
    return len(lives) - 1


@pytest.mark.slow
@pytest.mark.parametrize("pauses", [[], [0.03]])
def test_signals_at_random_instants(data, tmp_path, alone, pauses):
    assert stopped_at_random(data, tmp_path / "run", alone, 1, 3, pauses) > 1


@pytest.mark.long
@pytest.mark.parametrize("pauses", [[], [0.0], [0.01], [0.1], [0.0, 0.0]])
def test_many_signals_at_random_instants(data, tmp_path, alone, pauses):
    for draws in range(5):
        stopped_at_random(data, tmp_path / f"run-{draws}", alone, draws, 8, pauses)


PHASES = {  # function: call at which signals arrive
    "minise.train.loop.train_step": 7,
    "minise.train.loop.evaluate": 3,
    "minise.train.loop.checkpoints.save": 4,
    "minise.files.os.replace": 9,
}


@pytest.mark.parametrize(
    ("target", "count"),
    [pytest.param(name, 2, marks=pytest.mark.slow) for name in PHASES]
    + [pytest.param(name, 1, marks=pytest.mark.long) for name in PHASES],
)
def test_signals_in_every_phase(data, tmp_path, alone, target, count):
    path = tmp_path / "run"
    first = train_arguments(data, path)
    numbers = [signal.SIGTERM, signal.SIGINT][:count]
    life = run(in_function(target, PHASES[target], first, numbers))
    assert life.status == 128 + signal.SIGTERM, life
    check_stopped(path, life)
    check_end(path, alone(), run(python(resume_arguments(path))))


@pytest.mark.slow
def test_a_paused_run_is_not_taken_over(data, tmp_path, alone):
    """Ctrl-Z, or a computer that sleeps: the process lives, so no other one may write."""
    path = tmp_path / "run"
    refused = []

    def go_on_beside():
        refused.append(run(python(resume_arguments(path))))
        return True

    instants = [Growth(path / "metrics.jsonl", 5, 0.0), go_on_beside]
    numbers = [signal.SIGSTOP, signal.SIGCONT]
    life = run(python(train_arguments(data, path)), instants, numbers)
    check_end(path, alone(), life)
    assert refused[0].status in (1, 2)
    assert "is being written by the process" in refused[0].err


OUTPUTS = ["| head -n 1", "> /dev/full", ">&- 2>&- <&-"]


@pytest.mark.slow
@pytest.mark.parametrize("output", OUTPUTS)
def test_output_that_nobody_reads(data, tmp_path, alone, output):
    path = tmp_path / "run"
    first = train_arguments(data, path)
    life = run(["sh", "-c", f"{shlex.join(map(str, python(first)))} {output}"])
    assert "Traceback" not in life.err
    check_readable(path)
    check_log(path)
    check_end(path, alone(), run(python(go_on(path, first))))
