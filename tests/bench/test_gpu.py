"""minise bench cuda without a GPU: everything except timing, on small images in the emulator."""

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from minise.bench import peers, result
from minise.bench.gpu import compare
from minise.bench.gpu.compare import PASSES, Limits, Measurement, Row, Shape, shapes, table_of
from minise.bench.gpu_clock import Clock, buffer_set_count
from minise.bench.settings import CudaSettings
from minise.bench.workloads import SE, TAIL
from minise.ops.cuda.backend import Backend
from tests.bench.tables import text_of
from tests.cli.commands import call
from tests.ops.cuda.device import device
from tests.ops.cuda.emulator import Emulator

SHAPES = [Shape(3, 8, 4, 2), Shape(2, 4, 3, 1)]
GB_S = 1000.0


class FakeClock:
    """Runs every call once, and returns the same time for all."""

    def __init__(self):
        self.calls = []

    def cache_bytes(self):
        return 1 << 10

    def time_launched(self, calls):
        self.calls.append([run() for run in calls])
        return 4.0

    time_in_graph = time_launched

    def copy_bandwidth(self):
        return GB_S

    def launch_cost(self):
        return 3.0, 1.0


def emulated(**settings):
    return Backend(Emulator(device, **settings))


def measured(monkeypatch, ops=None, **settings):
    monkeypatch.setattr(compare, "shapes", lambda: SHAPES)
    chosen = CudaSettings(**{"what": ("se", "tail"), "against": (), **settings})
    clock, messages = FakeClock(), []
    measurement = Measurement(chosen, ops or emulated(), clock, "a GPU")
    measurement.run(lambda name: messages.append((name, len(measurement.rows))))
    return measurement, messages, clock


@pytest.mark.slow
def test_every_way_is_checked_and_timed(monkeypatch):
    measurement, messages, clock = measured(monkeypatch)
    assert [(row.way, row.launched) for row in measurement.rows[:6]] == [
        ("minise, simple", "launched"),
        ("minise, simple", "graph"),
        ("minise, tile", "launched"),
        ("minise, tile", "graph"),
        ("minise, fused", "launched"),
        ("minise, fused", "graph"),
    ]
    assert len(measurement.rows) == 12
    for row in measurement.rows:
        assert row.problem == ""
        assert row.error < compare.MAX_ERROR
        assert (row.forward_us, row.both_us) == (4, 4)
    assert measurement.rows[2].floor_us == pytest.approx(5 * SHAPES[0].bytes / GB_S / 1e3)
    assert [count for _, count in messages] == [0, *range(12)]
    assert "squeeze-excite R=2, 8, 4x4, batch 3: minise, tile, graph" in dict(messages)
    sets = buffer_set_count(2 * SHAPES[0].bytes, 1 << 10)
    assert len(clock.calls[0]) == sets


def test_sets_of_buffers_hold_different_numbers():
    """The output of each set is computed from the x of that set."""
    workload = SHAPES[0].workload(SE)
    forward, both = compare.calls_of(emulated(), workload, 2)
    outs = [run()[0].get() for run in forward]
    assert not np.allclose(outs[0], outs[1])
    assert [len(run()) for run in both] == [5, 5]


def test_only_the_rows_of_a_wrong_kernel_are_wrong(monkeypatch):
    def wrong(text):
        return text.replace("dz[row + q] / hw", "dz[row + q]")

    measurement, _, _ = measured(monkeypatch, emulated(edit=wrong), what=("se",))
    assert {row.way for row in measurement.rows if row.wrong} == {"minise, simple"}


def test_a_number_that_is_not_finite_is_wrong():
    assert Row("", 1, "minise", "graph", error=float("nan")).wrong
    assert peers.relative_error(np.array([1, np.nan]), np.ones(2)) == np.inf


def test_a_failure_is_reported_in_its_row(monkeypatch):
    def fails(*_):
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(compare, "calls_of", fails)
    measurement, _, _ = measured(monkeypatch)
    assert {row.problem for row in measurement.rows} == {"RuntimeError: out of memory"}
    assert "RuntimeError: out of memory" in text_of(measurement.result().tables[0])


def test_rows_after_the_time_limit_are_skipped(monkeypatch):
    now = iter(range(0, 10**6, 2))
    monkeypatch.setattr(result.time, "monotonic", lambda: next(now))
    measurement, _, _ = measured(monkeypatch, seconds=9)
    assert len(measurement.rows) == 2
    assert len(measurement.left_out) == 10
    assert "skipped (time limit): squeeze-excite" in text_of(measurement.result().tables[0])


def test_a_training_step(monkeypatch):
    monkeypatch.setattr(compare, "NET", "se_resnet8")
    monkeypatch.setattr(compare, "BATCHES", (2,))
    monkeypatch.setattr(peers, "IMAGE_SIZE", (8, 8))
    measurement, _, clock = measured(monkeypatch, what=("step",))
    rows = [(row.way, row.both_us, row.problem) for row in measurement.rows]
    assert rows == [("minise, fp32", 4, ""), ("minise, tf32", 4, "")]
    assert 1 < float(clock.calls[0][0]) < 4


def test_the_table(monkeypatch):
    row = Row("squeeze-excite", 128, "minise, tile", "graph", 10, 25, 20, 2e-7)
    others = [
        Row("squeeze-excite", 128, "torch", "launched", 40, 100),
        Row("squeeze-excite", 128, "torch-graph", "graph", 20, 50),
        Row("squeeze-excite", 128, "torch-compile", "launched", problem="ImportError: no torch"),
        Row("squeeze-excite", 64, "torch", "launched", 1, 1),
    ]
    lines = text_of(table_of([row, *others], Limits("H200", 4300, 3, 1), [])).splitlines()
    heading = "H200; copies 4300 GB/s; a kernel launch takes 3.0 us from Python, 1.0 us in a graph"
    assert heading in lines
    minise_line = next(line for line in lines if "minise, tile" in line)
    assert minise_line.split() == [
        "minise,",
        "tile,",
        "graph",
        "10.0",
        "25.0",
        "80%",
        "4.00",
        "2.00",
        "2e-07",
    ]
    assert any("torch-compile, launched: ImportError: no torch" in line for line in lines)


def test_json_has_all_rows_and_their_circumstances(monkeypatch):
    measurement, _, _ = measured(monkeypatch)
    content = json.loads(json.dumps(measurement.result().as_json()))
    assert len(content["rows"]) == 12
    assert content["gpu"] == "a GPU"
    assert {"date", "machine", "versions", "copy_gb_s", "settings"} <= set(content)


def test_the_shapes():
    """They include the shapes for which the targets are stated."""
    assert Shape(64, 512, 28, 32) in shapes()
    assert Shape(64, 1024, 14, 64) in shapes()
    assert Shape(64, 512, 28, 32).bytes == 4 * 64 * 512 * 784
    assert set(PASSES) == {(SE, "simple"), (SE, "tile"), (TAIL, "fused")}


def test_large_images_have_no_tile():
    names = [way.name for way in compare.variants_of(emulated(), SE, Shape(64, 512, 28, 32))]
    assert names == ["simple"]
    assert [way.name for way in compare.variants_of(emulated(), SE, shapes()[0])] == [
        "simple",
        "tile",
    ]


class Events:
    """CuPy's interface as used by Clock; `work` advances the simulated time by a millisecond."""

    def __init__(self):
        self.now, self.captured, self.replayed = 0.0, 0, 0
        events = self

        class Event:
            def record(self, stream):
                self.time = events.now

            def synchronize(self):
                pass

        class Stream:
            def __init__(self, non_blocking=False):
                pass

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            def synchronize(self):
                pass

            def begin_capture(self):
                self.start = events.now

            def end_capture(self):
                length = events.now - self.start
                events.captured += 1
                return SimpleNamespace(launch=lambda stream: events.replay(length))

        attributes = {"L2CacheSize": 1 << 20}
        waiting = SimpleNamespace(attributes=attributes, synchronize=lambda: self.waited.append(1))
        self.waited = []
        self.cuda = SimpleNamespace(
            Event=Event,
            Stream=Stream,
            get_current_stream=Stream,
            get_elapsed_time=lambda start, end: end.time - start.time,
            Device=lambda: waiting,
        )

    def work(self):
        self.now += 1

    def replay(self, length):
        self.now += length
        self.replayed += 1


@pytest.mark.parametrize("calls", [1, 7, 30])
def test_the_clock_returns_the_time_per_call(calls):
    """One millisecond, for any number of calls to cycle through."""
    events = Events()
    clock = Clock(events, rounds=5)
    assert clock.time_launched([events.work] * calls) == pytest.approx(1000)
    assert clock.time_in_graph([events.work] * calls) == pytest.approx(1000)
    assert (events.captured, events.replayed) == (1, 6)
    assert len(events.waited) == 1  # for writes of other streams, before the capture
    assert clock.cache_bytes() == 1 << 20


def test_time_in_python_and_total_time():
    events = Events()
    python, wall = Clock(events, rounds=5).time_python_and_total(events.work)
    assert 0 < python <= wall
    assert events.now == 3 + 20  # 3 warm-up calls
    assert len(events.waited) == 2


def test_results_stay_allocated_until_the_next_call_on_their_set():
    """Otherwise the allocator would reuse the memory of the previous result, which is cached."""
    forward, both = compare.calls_of(emulated(), SHAPES[0].workload(SE), 3)
    for calls in (forward, both):
        addresses = [run()[0].array.ctypes.data for run in calls]
        assert len(set(addresses)) == 3


def test_peers_compute_what_we_compute():
    torch = pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
    from minise.bench.peers import pytorch
    from minise.bench.workloads import gated_arrays_of

    for op in (SE, TAIL):
        workload = SHAPES[0].workload(op)
        forward, both = pytorch.op_calls("torch", workload, 2, "cpu")
        own_forward, own_both = compare.calls_of(emulated(), workload, 2)
        for theirs, ours in zip(forward, own_forward, strict=True):
            np.testing.assert_allclose(theirs().detach().numpy(), ours()[0].get(), atol=1e-5)
        for theirs, ours in zip(both, own_both, strict=True):
            for a, b in zip(theirs(), ours(), strict=True):
                np.testing.assert_allclose(a.numpy(), b.get(), atol=1e-4)
        assert set(gated_arrays_of(workload)) > {"x", "dout"}
    loss = pytorch.training_step("fp32", 2, "se_resnet8", "cpu")()
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bench cuda --rounds 0", "rounds is 0, expected at least 1"),
        ("bench cuda --seconds 0", "seconds is 0, expected at least 1"),
        ("bench cuda --json nowhere/figures.json", "create nowhere first"),
        ("bench cuda --what all", "all"),
    ],
)
def test_misuse(line, message, capsys):
    status, out, err = call(line, capsys)
    assert status == 2
    assert message in " ".join((out + err).replace("│", " ").split())


def test_without_a_gpu_it_says_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr("minise.ops.cuda.requirements.missing", lambda: "CuPy is not installed")
    status, _, err = call("bench cuda", capsys)
    assert (status, err) == (2, "minise: the cuda back end cannot run: CuPy is not installed\n")


def test_the_command_from_end_to_end(capsys, monkeypatch, tmp_path):
    """With the emulator as the GPU, and a fake clock."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setitem(__import__("sys").modules, "cupy", ModuleType("cupy"))
    monkeypatch.setattr(compare, "shapes", lambda: SHAPES)
    monkeypatch.setattr("minise.bench.gpu_clock.Clock", lambda cupy, rounds: FakeClock())
    for name, value in (
        ("require", lambda: None),
        ("using", emulated),
        ("describe", lambda: "a GPU, CUDA 12.9"),
    ):
        monkeypatch.setattr(f"minise.ops.cuda.{name}", value, raising=False)
    line = "bench cuda --what se --against --json figures.json"
    status, out, err = call(line, capsys)
    assert (status, err) == (0, "")
    assert "a GPU, CUDA 12.9; copies 1000 GB/s" in out
    assert "written: figures.json" in out
    assert len(json.loads(Path("figures.json").read_text())["rows"]) == 8
    monkeypatch.setattr(compare, "MAX_ERROR", 0.0)
    status, _, err = call(line, capsys)
    assert status == 1
    assert err.startswith("minise: too far from float64: minise, simple at squeeze-excite")
