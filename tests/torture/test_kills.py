"""Training runs that are killed with SIGKILL end bit-identical to the uninterrupted run.

After each kill every checkpoint loads and at most `--save-every` seconds are lost; after the end no
line of the log is there twice, and no other file.
"""

import random
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from minise.train.verify import verify
from tests.torture.calls import names_in
from tests.torture.kill import Growth, at_call, file_calls, in_function, run, run_until_done
from tests.torture.runs import (
    FILES,
    check_end,
    check_log,
    check_readable,
    go_on,
    lost_seconds,
    photos,
    python,
    resume_arguments,
    train_arguments,
)

slow = pytest.mark.slow
KILLS = 8  # of a run at random instants; then it is left alone
SLACK = 1.0  # seconds: a step and a save, on a machine that does much else


def check_after_kill(path, life, save_every):
    assert life.status == -9, life
    check_readable(path)
    check_log(path)
    assert lost_seconds(path) <= save_every + SLACK


def instant(rng, path):
    """Return when to kill a run: as it starts, or a moment after some line of its log."""
    if rng.random() < 0.15:
        return rng.uniform(0, 0.6)
    return Growth(path / "metrics.jsonl", rng.randint(1, 8), rng.uniform(0, 0.08))


def killed_at_random(data, path, alone, draws, kills, **options):
    """Kill a run at random instants, let it end, and return the number of kills."""
    rng, first = random.Random(draws), train_arguments(data, path, **options)
    expected = alone(**options)
    save_every = options.get("save_every", 0.1)
    lives = run_until_done(
        python(first),
        lambda life: python(go_on(path, first)),
        lambda lives: instant(rng, path) if len(lives) < kills else None,
        check=lambda life: check_after_kill(path, life, save_every),
    )
    check_end(path, expected, lives[-1])
    return sum(life.killed_at is not None for life in lives)


@slow
def test_kills_at_random_instants(data, tmp_path, alone):
    assert killed_at_random(data, tmp_path / "run", alone, 0, KILLS) > 2


@pytest.mark.long
@pytest.mark.parametrize("save_every", [0.0, 0.1, 1.0])
def test_200_kills_at_random_instants(data, tmp_path, alone, save_every):
    kills, seed = 0, 0
    while kills < 67:
        seed += 1
        options = dict(save_every=save_every, seed=seed % 3, epochs=(4, 12)[save_every == 1.0])
        kills += killed_at_random(data, tmp_path / f"run-{seed}", alone, seed, KILLS, **options)


def lost_by_kill(tmp_path, save_every):
    """Return how much training a kill in a long epoch loses, in seconds."""
    path = tmp_path / "run"
    images = photos(tmp_path / "photos", 200)
    options = dict(epochs=1, batch_size=1, save_every=save_every)
    life = run(
        python(train_arguments(images, path, **options)), Growth(path / "metrics.jsonl", 300, 0.0)
    )
    assert life.status == -9
    check_readable(path)
    return lost_seconds(path, 1)


@slow
def test_a_kill_loses_at_most_save_every_seconds(tmp_path):
    lost = lost_by_kill(tmp_path / "a", 0.2)
    assert lost <= 0.2 + SLACK
    assert lost_by_kill(tmp_path / "b", 60) > 2 * lost


@pytest.mark.long
def test_a_kill_loses_at_most_a_second(tmp_path):
    for number in range(5):
        assert lost_by_kill(tmp_path / str(number), 1.0) <= 1.0 + SLACK


def resumed(path, first):
    """Resume a run until its end."""
    return run(python(go_on(path, first)))


@slow
@pytest.mark.parametrize(
    ("target", "number"),
    [
        ("minise.train.loop.evaluate", 3),  # validation
        ("minise.train.loop.evaluate", 5),  # the test
        ("minise.train.loop.train_step", 7),
        ("minise.train.loop.restore", 1),  # of the best net, before the test
    ],
)
def test_kills_in_every_phase(data, tmp_path, alone, target, number):
    path = tmp_path / "run"
    first = train_arguments(data, path)
    life = run(in_function(target, number, first))
    check_after_kill(path, life, 0.1)
    check_end(path, alone(), resumed(path, first))


FEW_CALLS = dict(epochs=2, save_every=60, log_every=5)


@pytest.fixture(scope="module")
def calls(data, tmp_path_factory):
    """Return the file calls of a run with FEW_CALLS."""
    out = tmp_path_factory.mktemp("calls")
    return file_calls(out, train_arguments(data, out / "run", **FEW_CALLS))


@slow
@pytest.mark.parametrize("share", [0.4, 0.8])
def test_kills_in_a_save(data, tmp_path, alone, calls, share):
    """Most file calls of a run are those of its saves."""
    path = tmp_path / "runs" / "run"
    path.parent.mkdir()
    first = train_arguments(data, path, **FEW_CALLS)
    writes = [number for number, call in enumerate(calls) if call.startswith("write .minise")]
    number = writes[int(share * len(writes))]
    life = run(at_call(path.parent, number, "torn", first))
    check_after_kill(path, life, 60)
    check_end(path, alone(**FEW_CALLS), resumed(path, first))


@pytest.mark.long
@pytest.mark.parametrize("when", ["before", "torn", "after"])
def test_kills_at_every_file_call(data, tmp_path, alone, calls, when):
    path = tmp_path / "runs" / "run"
    path.parent.mkdir()
    first = train_arguments(data, path, **FEW_CALLS)
    start = ("before", "torn", "after").index(when)
    for number in range(start, len(calls), 3):
        life = run(at_call(path.parent, number, when, first))
        try:
            check_after_kill(path, life, 60)
            check_end(path, alone(**FEW_CALLS), resumed(path, first))
        except BaseException as failure:
            failure.add_note(f"killed {when} call {number} of {len(calls)}, {calls[number]}")
            raise
        shutil.rmtree(path)


@slow
def test_a_killed_resume_continued(data, tmp_path, alone):
    """Kill a run, and the commands that resume it, before their first checkpoint."""
    path = tmp_path / "run"
    first = train_arguments(data, path)
    assert run(in_function("minise.train.loop.train_step", 9, first)).status == -9
    for number in (1, 2):
        command = in_function("minise.train.loop.train_step", number, resume_arguments(path))
        check_after_kill(path, run(command), 0.1)
    assert run(in_function("minise.train.loop.evaluate", 1, resume_arguments(path))).status == -9
    check_end(path, alone(), resumed(path, first))


@pytest.mark.long
@pytest.mark.parametrize("when", ["before", "torn", "after"])
def test_kills_at_file_calls_of_a_resume(data, tmp_path, alone, when):
    path = tmp_path / "runs" / "run"
    killed, out = tmp_path / "killed", path.parent
    first = train_arguments(data, path, **FEW_CALLS)
    out.mkdir()
    run(in_function("minise.train.loop.train_step", 8, first))
    shutil.copytree(path, killed)
    calls = file_calls(out, resume_arguments(path))
    for number in range(("before", "torn", "after").index(when), len(calls), 6):
        shutil.rmtree(path)
        shutil.copytree(killed, path)
        life = run(at_call(out, number, when, resume_arguments(path)))
        try:
            check_after_kill(path, life, 60)
            check_end(path, alone(**FEW_CALLS), resumed(path, first))
        except BaseException as failure:
            failure.add_note(f"killed {when} call {number} of {len(calls)}, {calls[number]}")
            raise


@slow
def test_two_resumes_at_once(data, tmp_path, alone):
    """One continues the run; the others are refused or, if late, find a finished run or test."""
    path = tmp_path / "run"
    first = train_arguments(data, path)
    assert run(in_function("minise.train.loop.train_step", 3, first)).status == -9
    with ThreadPoolExecutor() as threads:
        commands = [python(resume_arguments(path))] * 3
        lives = list(threads.map(run, commands))
    lives = [life._replace(out=" ".join(life.out.split())) for life in lives]  # rich wraps lines
    continued = [life for life in lives if re.search(r" after step (?!20 )\d+ of 20", life.out)]
    assert len(continued) == 1
    check_end(path, alone(), continued[0])
    for life in lives:
        assert len(life.err.splitlines()) == bool(life.status)
        if life.status:
            assert re.search("is being written by the process|is finished", life.err)
        elif life is not continued[0]:
            assert re.search("is finished| after step 20 of 20", life.out), life


@slow
def test_the_next_run_removes_temporary_files_of_a_killed_one(data, tmp_path, calls):
    """A temporary file of the size of a checkpoint, and the lock."""
    first, out = train_arguments(data, tmp_path / "runs" / "a", **FEW_CALLS), tmp_path / "runs"
    out.mkdir()
    (*_, number) = [k for k, call in enumerate(calls) if call.startswith("write .minise")]
    assert run(at_call(out, number, "torn", first)).status == -9
    assert len(names_in(out / "a").keys() - FILES) == 2
    assert run(python(train_arguments(data, out / "b", **FEW_CALLS))).status == 0
    assert names_in(out / "a").keys() <= FILES


@slow
def test_a_run_can_be_verified_while_it_is_written(data, tmp_path):
    path, reports = tmp_path / "run", []

    def look():
        if (path / "last.safetensors").exists():
            reports.append(verify(path))
        return False

    life = run(python(train_arguments(data, path, save_every=0)), look)
    assert life.status == 0
    assert [report.problems for report in reports if report.problems] == []
    assert len(reports) > 2
