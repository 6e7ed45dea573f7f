"""minise bench and minise profile as a user meets them."""

import json
import re
import signal
from pathlib import Path

import pytest

from tests.cli.commands import call, example


@pytest.fixture(autouse=True)
def _quick_in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("minise.bench.ladder.RUN_SECONDS", 0.0)
    monkeypatch.setattr("minise.bench.profile.MATRIX_SIDE", 64)
    monkeypatch.setattr("minise.bench.scaling.TURN_SECONDS", 0.0)


def narrow(out):
    """Check that the tables fit 80 columns; the notes below may be as long as they like."""
    table = out.partition("\nms: ")[0]
    return max(len(line.rstrip()) for line in table.splitlines()) <= 80


@pytest.mark.slow
def test_the_example_of_bench_cpu_runs(capsys):
    """Without the first starts, which compile everything: a slow test has them (test_compare)."""
    line = example("bench cpu", capsys).replace("--rounds 3", "--rounds 2")
    status, out, err = call(f"{line} --threads 1 --no-start --json figures.json", capsys)
    assert (status, err) == (0, "")
    assert "training step: se_resnet8, reduction 16, batch 8, float32, 1 thread" in out
    assert "minise (jit)" in out
    assert "numpy-im2col" in out
    assert narrow(out)
    content = json.loads(Path("figures.json").read_text())
    assert content["settings"]["batch"] == 8
    assert content["works"][0]["verdict"].partition(",")[0].partition(" ")[0] in out


def test_the_example_of_bench_scaling_runs(capsys):
    line = f"{example('bench scaling', capsys)} --threads 1"
    status, out, err = call(f"{line} --json figures.json", capsys)
    assert (status, err) == (0, "")
    assert "against depth: batch 2, reduction 16, float32, jit, 1 thread" in out
    assert "against batch: se_resnet20, reduction 16, float32, jit, 1 thread" in out
    assert re.search(r"ms per layer [+-] .* ms; R\^2 [-\d.]+; largest residual", out)
    assert re.search(r"ms per image [+-] .* ms; R\^2 [-\d.]+; largest residual", out)
    assert narrow(out)
    assert json.loads(Path("figures.json").read_text())["settings"]["depths"] == [8, 20, 32]


def test_bench_scaling_draws(capsys):
    pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install -e '.[plot]'")
    line = "bench scaling --ops reference --depths 8 20 32 --batches 1 2 3 --batch 1 --depth 8"
    status, out, err = call(f"{line} --threads 1 --rounds 1 --plot lines.svg", capsys)
    assert (status, err) == (0, "")
    assert "written: lines.svg" in out
    assert "<svg" in Path("lines.svg").read_text()


def test_the_example_of_conv_ladder_runs(capsys):
    pytest.importorskip("numba", reason="the rungs are compiled by Numba")
    status, out, err = call(f"{example('bench conv-ladder', capsys)} --threads 1", capsys)
    assert (status, err) == (0, "")
    assert "3x3 convolution, 32 to 32 channels, 4 images of 16x16, float32, 1 thread" in out
    for rung in ("python_loops", "row_loops", "im2col_product"):
        assert rung in out
    assert narrow(out)


def test_the_example_of_profile_runs(capsys):
    line = f"{example('profile', capsys)} --threads 1 --steps 1 --algorithm direct"
    status, out, err = call(line, capsys)
    assert (status, err) == (0, "")
    assert "a training step by ops: se_resnet8, reduction 16, batch 8" in out
    assert re.search(r"1 thread,\s+jit, direct", out)
    assert re.search(r"softmax_cross_entropy +forward +1 ", out)
    assert re.search(r"the slowest 10 of \d+ layers", out)
    assert narrow(out)


@pytest.mark.long
def test_the_example_of_bench_se_overhead_runs(capsys):
    line = example("bench se-overhead", capsys).replace("--rounds 2", "--rounds 1")
    status, out, err = call(f"{line} --threads 1 --against torch --json figures.json", capsys)
    assert (status, err) == (0, "")
    assert "training step, ms: batch 4, float32, 1 thread" in out
    assert "minise (jit)" in out
    assert json.loads(Path("figures.json").read_text())["rows"][0]["batch"] == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bench cpu --net se_resnet21", "'se_resnet21' is unknown: did you mean se_resnet"),
        ("bench cpu --net resnet8 --reduction 4", "no SE blocks, but reduction is set"),
        ("bench cpu --ops no_such_module", "ops 'no_such_module' is unknown"),
        ("bench cpu --net resnet50 --size 1", "at least 5 x 5"),
        ("bench se-overhead --nets resnet8 se_resnet9", "'se_resnet9' is unknown"),
        ("bench se-overhead --size 1", "at least 5 x 5"),
        ("bench shapes --shapes '3x3 4 @8' --shapes 'dw 4 @8'", "--shapes is set twice, expected"),
        ("bench cpu --what step --what=ops", "join them after one --what"),
        ("bench scaling --depths 8 20 21", "'se_resnet21' is unknown"),
        ("profile --net resnet", "'resnet' is unknown: did you mean resnet"),
        ("profile --ops none.py", "'none.py' does not exist"),
        ("profile --ops reference --algorithm direct", "'reference' has one algorithm only"),
        ("bench cpu --ops reference --algorithm winograd", "'reference' has one algorithm only"),
    ],
)
def test_misuse_is_one_line_and_status_2(line, message, capsys):
    status, _, err = call(line, capsys)
    assert status == 2
    assert err.startswith("minise: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bench", "cpu"),
        ("bench gpu", "gpu"),
        ("bench cpu --against tensorflow", "tensorflow"),
        ("bench cpu --rounds 0", "rounds is 0, expected at least 1"),
        ("bench cpu --batch 0", "batch is 0, expected at least 1"),
        ("bench cpu --size 0", "size is 0, expected at least 1"),
        ("bench se-overhead --batch 0", "batch is 0, expected at least 1"),
        ("bench se-overhead --nets resnet8", "nets"),
        ("bench cpu --threads 100000", "threads is 100000, expected at most"),
        (
            "bench cpu --json nowhere/figures.json",
            "json is nowhere/figures.json, expected a file in",
        ),
        ("bench scaling --depths 8 20 8", "depths is (8, 20, 8), expected at least 3 different"),
        ("bench scaling --batches 0 1 2", "batches is 0, expected at least 1"),
        ("bench scaling --plot lines.pdf", "suffix is '.pdf', expected one of .png, .svg"),
        ("bench scaling --plot nowhere/lines.png", "create nowhere first"),
        ("bench cpu --algorithm fft", "fft"),
        ("profile --batch 0", "batch is 0, expected at least 1"),
        ("profile --steps 0", "steps is 0, expected at least 1"),
        ("profile --threads 100000", "threads is 100000, expected at most"),
        ("bench conv-ladder --stage 4", "4"),
        ("bench conv-ladder --batch 0", "batch is 0, expected at least 1"),
    ],
)
def test_misuse_that_the_parser_sees(line, message, capsys):
    status, out, err = call(line, capsys)
    assert status == 2
    words = " ".join((out + err).replace("│", " ").split())
    assert message in words
    assert "Traceback" not in words


def test_ctrl_c_ends_the_processes_and_exits_130(capsys, monkeypatch):
    started = []

    def interrupted(children, *_):
        started.extend(children)
        raise KeyboardInterrupt

    monkeypatch.setattr("minise.bench.compare.run_rounds", interrupted)
    line = "bench cpu --net resnet8 --batch 1 --threads 1 --against numpy-im2col --no-start"
    status, _, err = call(line, capsys)
    assert (status, err) == (130, "minise: interrupted, nothing is written\n")
    assert len(started) == 2
    assert all(worker.process.returncode is not None for worker in started)


def test_ctrl_c_ends_scaling_and_exits_130(capsys, monkeypatch):
    # a shell starts background jobs with SIGINT ignored, and Python then raises nothing
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr("minise.bench.scaling.fit", lambda *_: signal.raise_signal(signal.SIGINT))
    line = "bench scaling --ops reference --depths 8 20 32 --batches 1 2 3 --batch 1 --depth 8"
    try:
        status, _, err = call(f"{line} --threads 1 --rounds 1 --json figures.json", capsys)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (status, err) == (130, "minise: interrupted, nothing is written\n")
    assert not Path("figures.json").exists()


def test_a_back_end_that_fails_is_one_line_and_status_1(capsys):
    text = "from minise.ops.reference import *\ndef conv2d_forward(*a, **b):\n    return a[9]\n"
    Path("mine.py").write_text(text)
    status, _, err = call("bench cpu --net resnet8 --batch 1 --threads 1 --ops mine.py", capsys)
    assert status == 1
    assert re.match(r"minise: training step with mine.py: mine.py:3: IndexError: .*\n$", err)
