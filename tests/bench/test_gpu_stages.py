"""The commands of `.ci/gpu`, here in the emulator, and the script with stubs."""

import contextlib
import json
import os
import re
import stat
import subprocess
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from minise.bench import gpu_clock
from minise.bench.gpu import __main__ as stages
from minise.bench.gpu.probes import Probes
from minise.bench.gpu.tensor_convolution import TILINGS, TensorConvolution, Tiling
from minise.bench.peers import relative_error, training_step
from minise.bench.result import Task, failed_tasks
from minise.ops import cuda, reference
from minise.ops.cuda.backend import Backend
from minise.ops.cuda.sources import parameters, source
from tests.cli.commands import call
from tests.ops.cuda.compiler import NEEDED, build_text, newest
from tests.ops.cuda.device import Module, device
from tests.ops.cuda.emulator import Emulator

ROOT = Path(__file__).parents[2]
SIZES = dict(net="se_resnet8", batch=4, size=8, side=5)


class Capturing(Emulator):
    """An emulator with CuPy's streams: captured kernels run when their graph is launched."""

    def __init__(self, **settings):
        super().__init__(Cupy(self), **settings)
        self.captured = None

    def run(self, *launch):
        if self.captured is None:
            super().run(*launch)
        else:
            self.captured.append(launch)


class Cupy(Module):
    """The array module of the tests, with CuPy's streams, memory pools and profiler."""

    def __init__(self, emulator):
        self.profiled = []
        runtime = SimpleNamespace(
            profilerStart=lambda: self.profiled.append("start"),
            profilerStop=lambda: self.profiled.append("stop"),
        )
        self.cuda = SimpleNamespace(
            Stream=partial(Stream, emulator),
            Device=lambda: SimpleNamespace(synchronize=lambda: None),
            MemoryPool=lambda: SimpleNamespace(malloc=None),
            using_allocator=lambda malloc: contextlib.nullcontext(),
            runtime=runtime,
        )
        self.emulator = emulator

    def get_default_memory_pool(self):
        return SimpleNamespace(used_bytes=lambda: 2**20, total_bytes=lambda: 3 * 2**20)

    def matmul(self, *arrays, **settings):
        if self.emulator.captured is not None:
            raise NotImplementedError("calling cuBLAS API during stream capture")
        return Module.__getattr__(self, "matmul")(*arrays, **settings)


class Stream:
    def __init__(self, emulator, non_blocking):
        self.emulator = emulator

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def synchronize(self):
        pass

    def begin_capture(self):
        self.emulator.captured = []

    def end_capture(self):
        launches, self.emulator.captured = self.emulator.captured, None

        def launch(stream):
            for arguments in launches:
                self.emulator.run(*arguments)

        return SimpleNamespace(launch=launch)


def back_end(**settings):
    return Backend(Capturing(**settings))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(gpu_clock, "MIN_CALLS", 2)
    monkeypatch.setattr(gpu_clock, "WARM_UP_CALLS", 1)


@pytest.mark.slow
def test_all_probes_pass_in_the_emulator(tmp_path):
    rows = stages.record(Probes(back_end(), **SIZES).tasks(), tmp_path / "probes.json", 600)
    assert failed_tasks(rows) == []
    results = {row["name"]: row["result"] for row in rows}
    assert results["first SE block forward and backward, compiled"][0] == [4, 16, 8, 8]
    assert results["memory pool: MiB used and held"] == {"used": 1, "held": 3}
    assert results["offsets beyond 2**31"] == pytest.approx([3, 2])
    assert results["graph of a matrix product"] == "refused: NotImplementedError"
    assert results["dtype of where with a scalar, and of the loss"] == ["float32"] * 2
    assert "blocks" in results["launch of too many blocks"]
    assert results["tile at the limit of shared memory"] > (227 << 10) - 300
    times = results["training step: us in Python, us in total"]
    assert 0 < times["python_us"] <= times["us"]
    losses = results["three training steps, repeated: bit-identical"]
    assert [type(loss) for loss in losses] == 3 * [float]


def test_a_wrong_kernel_fails_its_probe(tmp_path):
    """The wrong kernel adds 1 to every number."""

    def wrong(text):
        return text.replace("shift ? shift[c] / hw : real(0)", "real(1)")

    probes = Probes(back_end(edit=wrong), **SIZES)
    tasks = [Task("layouts", probes.layouts), Task("dtypes", probes.dtypes)]
    rows = stages.record(tasks, tmp_path / "probes.json", 600)
    assert failed_tasks(rows) == ["layouts"]
    assert "ProbeError" in rows[0]["problem"]


def test_results_that_change_from_run_to_run_fail_their_probe(monkeypatch):
    probes = Probes(back_end(), **SIZES)
    outcomes = iter([([1.0], {"w": np.ones(1)}), ([1.0], {"w": np.zeros(1)})])
    monkeypatch.setattr(probes, "_train", lambda: next(outcomes))
    with pytest.raises(Exception, match="w.* differ in the second run"):
        probes.reproducible()


def fails():
    raise RuntimeError("out of memory")


def test_a_failing_task_does_not_stop_the_others(tmp_path, capsys):
    file = tmp_path / "rows.json"
    written = []

    def last():
        written.append(json.loads(file.read_text())["rows"])  # rows of the previous tasks
        return 2

    rows = stages.record(
        [Task("a", lambda: 1), Task("b", fails), Task("c", last)], file, 60, gpu="one"
    )
    assert [row.get("result") for row in rows] == [1, None, 2]
    assert rows[1]["problem"] == "RuntimeError: out of memory"
    assert failed_tasks(rows) == ["b"]
    assert [row["name"] for row in written[0]] == ["a", "b"]
    content = json.loads(file.read_text())
    assert content["gpu"] == "one"
    assert content["rows"] == rows
    assert {"machine", "versions"} <= content.keys()
    assert "b: RuntimeError: out of memory" in capsys.readouterr().out


def test_a_task_after_the_time_limit_is_skipped(tmp_path, monkeypatch):
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr("minise.bench.result.time.monotonic", lambda: next(now))
    rows = stages.record([Task("a", lambda: 1), Task("b", fails)], tmp_path / "rows.json", 15)
    assert rows[1]["problem"].startswith("skipped")
    assert failed_tasks(rows) == []


# PyTorch, on the CPU


@pytest.fixture
def baselines(monkeypatch):
    """Small measurements that run every call once; all times are a microsecond."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
    from minise.bench.gpu import baselines
    from minise.bench.peers import pytorch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    names = (matmul, "allow_tf32"), (cudnn, "allow_tf32"), (cudnn, "benchmark")
    flags_before = [(flags, name, getattr(flags, name)) for flags, name in names]
    sizes = dict(CONVOLUTIONS=((2, 3, 4),), BATCHES=(2,), NET="se_resnet8", MATRIX_SIDE=8)
    sizes |= dict(TILINGS=((2, 16, 8, Tiling(4, 8, 16, 2)),))
    sizes |= dict(IMAGENET_BATCH=2, IMAGENET_SIDE=8, IMAGENET_CLASSES=5)
    for name, value in sizes.items():
        monkeypatch.setattr(baselines, name, value)
    monkeypatch.setattr("minise.bench.peers.IMAGE_SIZE", (8, 8))
    monkeypatch.setattr(torch, "compile", lambda net, mode: net)

    def timed(calls, rounds, min_calls=1):
        for run in calls:
            run()
        return 1.0

    monkeypatch.setattr(pytorch, "time_launched", timed)
    monkeypatch.setattr(pytorch, "time_in_graph", timed)

    def create_model(name, num_classes):
        pool = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        return torch.nn.Sequential(torch.nn.Conv2d(3, num_classes, 3), *pool)

    timm = ModuleType("timm")
    timm.create_model = create_model
    monkeypatch.setitem(__import__("sys").modules, "timm", timm)

    class FakeClock(gpu_clock.Clock):
        def time_launched(self, calls):
            return timed(calls, 1)

        time_in_graph = time_launched

        def cache_bytes(self):
            return 1 << 10

        def copy_bandwidth(self):
            return 4000.0

    ops = back_end()
    yield baselines.Baselines(ops, FakeClock(ops.launcher.xp, 1), "cpu", 1)
    for flags, name, value in flags_before:
        setattr(flags, name, value)


@pytest.mark.slow
def test_all_baselines_are_measured(baselines, tmp_path):
    rows = stages.record(baselines.tasks(), tmp_path / "baselines.json", 600)
    assert failed_tasks(rows) == []
    results = {row["name"]: row["result"] for row in rows}
    assert len(results) == len(rows) == 1 + 3 + 7 + 1 + 7 + 6 + 1
    assert results["copying memory"] == {"gb_per_s": 4000}
    product = results["matrix product 8, tf32"]
    assert product["tflop_per_s"] == pytest.approx(2 * 8**3 / 1e6)
    conv = results["conv3x3 2x3x4x4, torch, bf16, channels_last"]
    assert conv == {"forward_us": 1, "dx_us": 1, "dweight_us": 1}
    assert results["conv3x3 2x3x4x4, minise"].keys() == {"forward_us", "backward_us", "dweight_us"}
    assert results["conv3x3 2x16x8x8, prototype, 4 8 16 2"]["error"] < 1e-3
    assert results["step of se_resnet8, batch 2, minise"]["us"] > 0
    assert results["step of seresnet50, batch 2, torch, bf16, graph"] == {"us": 1}
    assert results["kernels of a step of se_resnet8, minise"]["launches"] >= 0


# The convolution on tensor cores


def rounded_to_tf32(array):
    """Return the array rounded to 10 mantissa bits, half away from zero."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32).astype(float)


def convolved(N, C, K, side, tiling, **settings):
    """Return out, mean and centred squares of the prototype, and out of the reference."""
    rng, launcher = np.random.default_rng(0), Emulator(device, **settings)
    x, weight = (rng.standard_normal(s).astype("f") for s in ((N, C, side, side), (K, C, 3, 3)))
    convolution = TensorConvolution(launcher, C, K, side, tiling)
    x_device = launcher.asarray(x)
    outputs = convolution.allocate_outputs(x_device)
    convolution.run(x_device, convolution.arrange(launcher.asarray(weight)), outputs)
    operands = map(rounded_to_tf32, (x, weight))
    expected, _ = reference.conv2d_forward(*operands, padding=(1, 1))
    return [array.get() for array in outputs], expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("sizes", "tiling"),
    [
        ((2, 16, 16, 32), Tiling(8, 16, 16)),
        ((2, 32, 32, 16), Tiling(8, 32, 32)),
        ((1, 16, 32, 12), Tiling(6, 8, 16)),
        ((1, 64, 64, 8), Tiling(8, 32, 32)),
    ],
    ids=str,
)
def test_the_convolution_on_tensor_cores(sizes, tiling, seed):
    """For operands rounded to TF32, sums of 9 * 64 float32 products have an error below 1e-6."""
    (out, mean, m2), expected = convolved(*sizes, tiling, seed=seed, resident=1 + seed)
    assert relative_error(out, expected) < 1e-6
    N, K, H, W = out.shape
    groups = out.astype(float).reshape(N, K, H // tiling.rows, tiling.rows * W).swapaxes(1, 2)
    assert relative_error(mean, groups.mean(3)) < 1e-5
    centred = groups - groups.mean(3, keepdims=True)
    assert relative_error(m2, (centred**2).sum(3)) < 1e-6


@pytest.mark.skipif(not newest(), reason=f"no CUDA compiler: {NEEDED}")
@pytest.mark.parametrize(
    ("case", "chip"), [*((case, 90) for case in TILINGS), (TILINGS[0], 80)], ids=str
)
def test_the_convolution_on_tensor_cores_compiles_without_spills(case, chip):
    """Products in TF32 need Ampere (80) or later."""
    _, C, side, tiling = case
    unit = TensorConvolution(Emulator(), C, C, side, tiling).source
    usage = build_text(newest()[0], unit.text, chip, unit.defines).uses
    assert usage.keys() == {"arrange_weights", "conv3x3"}
    for kernel, use in usage.items():
        assert (use.spilled, use.stack) == (0, 0), kernel


@pytest.mark.long
@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("+ (fragment * WARP + lane) * 4", "+ (fragment * WARP + (lane ^ 1)) * 4"),
        ("+ tap / 3 * PITCH + tap % 3", "+ tap % 3 * PITCH + tap / 3"),
        ("row[3] = row[W + 4] = 0;", "row[3] = 0;"),
        ("shifted[index[o] + 4 * PLANE]", "shifted[index[o] + 3 * PLANE]"),
    ],
)
def test_a_bug_in_the_convolution_on_tensor_cores_is_detected(line, wrong):
    def edit(text):
        assert line in text
        return text.replace(line, wrong)

    (out, *_), expected = convolved(1, 16, 16, 8, Tiling(4, 8, 16), edit=edit)
    assert not relative_error(out, expected) < 1e-3


@pytest.mark.long
@pytest.mark.parametrize(
    "barrier",
    [
        "if (chunk > 0) __syncthreads();",
        "__syncthreads();  // weights and tile are complete",
        "__syncthreads();  // the sums of all warps are stored",
        "__syncthreads();  // the squares of all warps are stored",
    ],
)
def test_a_missing_barrier_is_detected(barrier):
    """The emulator lets a warp run ahead of the others, which can happen on a GPU."""

    def edit(text):
        assert barrier in text
        return text.replace(barrier, "")

    right, _ = convolved(1, 32, 32, 8, Tiling(4, 8, 16))
    errors = []
    for seed in range(8):
        wrong, _ = convolved(1, 32, 32, 8, Tiling(4, 8, 16), seed=seed, edit=edit)
        errors += [relative_error(a, b) for a, b in zip(wrong, right, strict=True)]
    assert max(errors) > 1e-6


# Files of other programs


def logged(path, losses):
    rows = [{"kind": "step", "step": 5 * k, "loss": loss} for k, loss in enumerate(losses, 1)]
    path.write_text("\n".join(json.dumps(row) for row in [*rows, {"kind": "test", "loss": 9}]))
    return path


def test_losses_side_by_side(tmp_path):
    first, second = logged(tmp_path / "a", [2.0, 1.1]), logged(tmp_path / "b", [2.0, 1.0])
    assert stages.main(["losses", str(first), str(second), str(tmp_path / "c.json")]) == 0
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["steps"] == [5, 10]
    assert content["losses"] == [[2, 2], [1.1, 1]]
    assert content["largest_relative_difference"] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="logs 2 steps and .* 1, expected the same steps"):
        stages.compare_losses(first, logged(tmp_path / "d", [1.0]))


def test_traffic_of_a_log_without_kernels_is_a_failure(tmp_path):
    log, file = tmp_path / "log.csv", tmp_path / "traffic.json"
    log.write_text("==ERROR== no kernels were profiled\n")
    assert stages.main(["traffic", str(log), str(file)]) == 1
    assert json.loads(file.read_text()) == []


# The commands


@pytest.mark.slow
def test_probes_as_a_command(tmp_path, monkeypatch):
    monkeypatch.setattr(stages.cuda, "using", back_end, raising=False)
    monkeypatch.setattr(stages.cuda, "describe", lambda: "a GPU")
    monkeypatch.setattr(stages, "Probes", lambda ops: Probes(ops, **SIZES))
    file = tmp_path / "probes.json"
    assert stages.main(["probes", str(file)]) == 0
    assert json.loads(file.read_text())["gpu"] == "a GPU"
    monkeypatch.setattr(stages, "Probes", lambda ops: SimpleNamespace(tasks=lambda: [("a", fails)]))
    monkeypatch.setattr(stages, "record", lambda *_, **__: [{"name": "a", "problem": "no"}])
    assert stages.main(["probes", str(file)]) == 1


def test_a_step_is_profiled_after_compilation(monkeypatch):
    ops = back_end()
    monkeypatch.setattr(stages.cuda, "using", lambda: ops, raising=False)
    small = partial(training_step, net="se_resnet8", size=(8, 8))
    monkeypatch.setattr(stages, "training_step", lambda ops, batch: small(ops, 2))
    assert stages.main(["step"]) == 0
    assert ops.launcher.xp.profiled == ["start", "stop"]


def test_the_names_of_all_kernels(capsys):
    assert stages.main(["kernels"]) == 0
    pattern = capsys.readouterr().out.strip()
    files = [path.name for path in Path(cuda.__file__).parent.glob("*.cu")]
    texts = [source(file, np.dtype(np.float32)).text for file in files]
    names = {name for text in texts for name in parameters(text)}
    assert len(names) > 20
    assert all(re.fullmatch(pattern, name) for name in names)


def test_an_unknown_command(capsys):
    assert stages.main([]) == stages.main(["probe"]) == 2
    assert "baselines FILE" in capsys.readouterr().err


# The script


@pytest.fixture
def script(tmp_path):
    """Return a function that runs .ci/gpu with stub programs that record their arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    stub = '#!/bin/sh\necho "$(basename "$0") $@" >> "$CALLS"\n[ "$(basename "$0")" != "$FAILS" ]\n'
    for name in ("nvidia-smi", "compute-sanitizer", "ncu", "python"):
        (folder / name).write_text(stub)
        (folder / name).chmod(0o755)

    def run(stage, fails="", **variables):
        environment = {**os.environ, "OUT": str(tmp_path / "out"), "PYTHON": str(folder / "python")}
        environment |= {"CALLS": str(tmp_path / "calls"), "FAILS": fails, **variables}
        environment["PATH"] = f"{folder}:{environment['PATH']}"
        command = ["bash", str(ROOT / ".ci/gpu"), *stage]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        steps, calls = tmp_path / f"out/{''.join(stage)}.steps.jsonl", tmp_path / "calls"
        rows = steps.read_text().splitlines() if steps.exists() else []
        lines = calls.read_text().splitlines() if calls.exists() else []
        return done, {r["step"]: r["status"] for r in map(json.loads, rows)}, lines

    return run


STAGES = {
    "first": ["gpu", "versions", "doctor", "probes", "tests", "host", "compile"],
    "bench": ["bench"],
    "deep": ["baselines"],
    "check": ["memcheck", "racecheck", "initcheck", "synccheck", "traffic", "summary"],
    "train": ["epochs", "short-cuda", "short-jit", "losses"],
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_its_steps(stage, script):
    done, steps, calls = script([stage])
    assert list(steps) == STAGES[stage], done.stderr
    assert set(steps.values()) == {0}
    assert done.returncode == (stage == "train")  # the stub writes no metrics.jsonl to copy
    commands = [re.search(r"-m minise\.bench\.gpu (\w+)", line) for line in calls]
    assert {match[1] for match in commands if match} <= stages.COMMANDS.keys()


def test_a_failing_step_does_not_stop_the_others(script):
    done, steps, _ = script(["first"], fails="nvidia-smi")
    assert done.returncode == 1
    assert list(steps) == STAGES["first"]
    assert (steps["gpu"], steps["versions"]) == (1, 0)


def test_without_a_stage_the_script_lists_the_stages(script):
    for stage in ([], ["all"]):
        done, steps, calls = script(stage)
        assert (done.returncode, steps, calls) == (2, {}, [])
        assert "first|bench|deep|check|train" in done.stderr


def test_the_script_is_executable_and_each_stage_takes_at_most_ten_minutes():
    path = ROOT / ".ci/gpu"
    assert path.stat().st_mode & stat.S_IXUSR
    body = path.read_text().partition("case $stage in\nfirst)")[2]
    for stage in body.split("    ;;\n")[:-1]:
        limits = [int(n) for n in re.findall(r"step \S+ (\d+) ", stage)]
        repeated = 4 if "for tool in" in stage else 1  # the first of its steps
        runs = 150 * len(re.findall(r"^    train ", stage, re.MULTILINE))
        assert runs + sum(limits) + (repeated - 1) * limits[0] <= 600, stage


@pytest.mark.skipif(cuda.missing() is None, reason="there is a GPU: it would train")
def test_its_commands_of_minise_are_valid(script, capsys, monkeypatch, tmp_path):
    """They are parsed, and fail only because there is no GPU."""
    monkeypatch.chdir(tmp_path)
    lines = [line for stage in ("bench", "train") for line in script([stage])[2]]
    verbs = [line.partition("-m minise ")[2] for line in dict.fromkeys(lines)]
    verbs = [line for line in verbs if line and "--ops jit" not in line]
    assert len(verbs) == 3
    for line in verbs:
        status, _, error = call(line, capsys)
        assert status == 2
        assert "the cuda back end cannot run" in error
