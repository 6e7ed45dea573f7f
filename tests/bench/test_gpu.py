"""minise bench cuda without a GPU: all but the clock, on small images in the emulator."""

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from minise.bench import peers, result
from minise.bench.gpu import compare
from minise.bench.gpu.compare import PASSES, Limits, Measurement, Row, Shape, shapes, table_of
from minise.bench.gpu_clock import Clock, sets_of_buffers
from minise.bench.settings import CudaSettings
from minise.bench.workloads import SE, TAIL
from minise.ops.cuda.backend import Backend
from tests.bench.tables import text_of
from tests.cli.commands import call
from tests.ops.cuda.device import device
from tests.ops.cuda.emulator import Emulator

SMALL = [Shape(3, 8, 4, 2), Shape(2, 4, 3, 1)]
GB_S = 1000.0


class StillClock:
    """Calls what it is given once, and finds the same time for all."""

    def __init__(self):
        self.calls = []

    def cache_bytes(self):
        return 1 << 10

    def launched(self, calls):
        self.calls.append([one() for one in calls])
        return 4.0

    graphed = launched

    def copy_bandwidth(self):
        return GB_S

    def launch_cost(self):
        return 3.0, 1.0


def emulated(**settings):
    return Backend(Emulator(device, **settings))


def measured(monkeypatch, ops=None, **settings):
    monkeypatch.setattr(compare, "shapes", lambda: SMALL)
    chosen = CudaSettings(**{"what": ("se", "tail"), "against": (), **settings})
    clock, seen = StillClock(), []
    measurement = Measurement(chosen, ops or emulated(), clock, "a GPU")
    measurement.run(lambda name: seen.append((name, len(measurement.rows))))
    return measurement, seen, clock


def test_every_way_is_checked_and_timed(monkeypatch):
    measurement, seen, clock = measured(monkeypatch)
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
    assert measurement.rows[2].floor_us == pytest.approx(5 * SMALL[0].bytes / GB_S / 1e3)
    assert [count for _, count in seen] == [0, *range(12)]
    assert "squeeze-excite R=2, 8, 4x4, batch 3: minise, tile, graph" in [name for name, _ in seen]
    sets = sets_of_buffers(2 * SMALL[0].bytes, 1 << 10)
    assert len(clock.calls[0]) == sets


def test_sets_of_buffers_hold_different_numbers():
    """And forward's results are those of the op: out of the second set is that of its own x."""
    workload = SMALL[0].workload(SE)
    forward, both = compare.calls_of(emulated(), workload, 2)
    outs = [one()[0].get() for one in forward]
    assert not np.allclose(outs[0], outs[1])
    assert [len(one()) for one in both] == [5, 5]


def test_a_wrong_kernel_is_told_from_a_right_one(monkeypatch):
    def wrong(text):
        return text.replace("dz[row] / hw", "dz[row]")

    measurement, _, _ = measured(monkeypatch, emulated(edit=wrong), what=("se",))
    assert {row.way for row in measurement.rows if row.wrong} == {"minise, simple"}


def test_a_number_that_is_not_finite_is_wrong():
    assert Row("", 1, "minise", "graph", error=float("nan")).wrong
    assert peers.relative_error(np.array([1, np.nan]), np.ones(2)) == np.inf


def test_what_goes_wrong_in_a_row_is_said_there(monkeypatch):
    def fails(*_):
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(compare, "calls_of", fails)
    measurement, _, _ = measured(monkeypatch)
    assert {row.problem for row in measurement.rows} == {"RuntimeError: out of memory"}
    assert "RuntimeError: out of memory" in text_of(measurement.result().tables[0])


def test_what_would_begin_too_late_is_left_out(monkeypatch):
    now = iter(range(0, 10**6, 2))
    monkeypatch.setattr(result.time, "monotonic", lambda: next(now))
    measurement, _, _ = measured(monkeypatch, seconds=9)
    assert len(measurement.rows) == 2
    assert len(measurement.left_out) == 10
    assert "left out, for want of time: squeeze-excite" in text_of(measurement.result().tables[0])


def test_a_training_step(monkeypatch):
    monkeypatch.setattr(compare, "NET", "se_resnet8")
    monkeypatch.setattr(compare, "BATCHES", (2,))
    monkeypatch.setattr(peers, "IMAGE_SIZE", (8, 8))
    measurement, _, clock = measured(monkeypatch, what=("step",))
    (row,) = measurement.rows
    assert (row.way, row.both_us, row.problem) == ("minise", 4, "")
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
    assert "H200; copies 4300 GB/s; a launch costs 3.0 us from Python, 1.0 us in a graph" in lines
    mine = next(line for line in lines if "minise, tile" in line)
    assert mine.split() == [
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


def test_json_has_all_and_where_it_was_measured(monkeypatch):
    measurement, _, _ = measured(monkeypatch)
    content = json.loads(json.dumps(measurement.result().as_json()))
    assert len(content["rows"]) == 12
    assert content["gpu"] == "a GPU"
    assert {"date", "machine", "versions", "copy_gb_s", "settings"} <= set(content)


def test_the_shapes():
    """Those that the targets are stated for."""
    assert Shape(64, 512, 28, 32) in shapes()
    assert Shape(64, 1024, 14, 64) in shapes()
    assert Shape(64, 512, 28, 32).bytes == 4 * 64 * 512 * 784
    assert set(PASSES) == {(SE, "simple"), (SE, "tile"), (TAIL, "fused")}


def test_large_images_have_no_tile():
    names = [way.name for way in compare.ways_of(emulated(), SE, Shape(64, 512, 28, 32))]
    assert names == ["simple"]
    assert [way.name for way in compare.ways_of(emulated(), SE, shapes()[0])] == ["simple", "tile"]


class Events:
    """CuPy as the clock sees it: every call that is recorded takes a millisecond."""

    def __init__(self):
        self.now, self.captured, self.replayed = 0.0, 0, 0
        events = self

        class Event:
            def record(self, stream):
                self.at = events.now

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
                self.began = events.now

            def end_capture(self):
                length = events.now - self.began
                events.captured += 1
                return SimpleNamespace(launch=lambda stream: events.replay(length))

        attributes = {"L2CacheSize": 1 << 20}
        waiting = SimpleNamespace(attributes=attributes, synchronize=lambda: self.waited.append(1))
        self.waited = []
        self.cuda = SimpleNamespace(
            Event=Event,
            Stream=Stream,
            get_current_stream=Stream,
            get_elapsed_time=lambda start, end: end.at - start.at,
            Device=lambda: waiting,
        )

    def work(self):
        self.now += 1

    def replay(self, length):
        self.now += length
        self.replayed += 1


@pytest.mark.parametrize("calls", [1, 7, 30])
def test_the_clock_counts_calls(calls):
    """Of one millisecond each, however many take turns."""
    events = Events()
    clock = Clock(events, rounds=5)
    assert clock.launched([events.work] * calls) == pytest.approx(1000)
    assert clock.graphed([events.work] * calls) == pytest.approx(1000)
    assert (events.captured, events.replayed) == (1, 6)
    assert len(events.waited) == 1  # for what other streams still write, before the capture
    assert clock.cache_bytes() == 1 << 20


def test_what_python_takes_is_told_from_what_a_call_takes():
    events = Events()
    python, wall = Clock(events, rounds=5).issued(events.work)
    assert 0 < python <= wall
    assert events.now == 3 + 20  # some to warm up
    assert len(events.waited) == 2


def test_results_live_until_their_turn_comes_again():
    """Else each would be written where the one before lay, in a cache."""
    forward, both = compare.calls_of(emulated(), SMALL[0].workload(SE), 3)
    for calls, first in ((forward, lambda result: result[0]), (both, lambda result: result[0])):
        addresses = [first(one()).array.ctypes.data for one in calls]
        assert len(set(addresses)) == 3


def test_peers_compute_what_we_compute():
    torch = pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
    from minise.bench.peers import pytorch
    from minise.bench.workloads import gated_arrays_of

    for op in (SE, TAIL):
        workload = SMALL[0].workload(op)
        forward, both = pytorch.op_calls("torch", workload, 2, "cpu")
        own_forward, own_both = compare.calls_of(emulated(), workload, 2)
        for one, mine in zip(forward, own_forward, strict=True):
            np.testing.assert_allclose(one().detach().numpy(), mine()[0].get(), atol=1e-5)
        for one, mine in zip(both, own_both, strict=True):
            for a, b in zip(one(), mine(), strict=True):
                np.testing.assert_allclose(a.numpy(), b.get(), atol=1e-4)
        assert set(gated_arrays_of(workload)) > {"x", "dout"}
    loss = pytorch.training_step("fp32", 2, "se_resnet8", "cpu")()
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bench cuda --rounds 0", "rounds is 0, expected at least 1"),
        ("bench cuda --seconds 0", "seconds is 0, expected at least 1"),
        ("bench cuda --json nowhere/figures.json", "folder is not there"),
        ("bench cuda --what all", "all"),
    ],
)
def test_misuse(line, message, capsys):
    status, out, err = call(line, capsys)
    assert status == 2
    assert message in " ".join((out + err).replace("│", " ").split())


def test_without_a_gpu_it_says_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr("minise.ops.cuda.cupy_launcher.missing", lambda: "CuPy is not installed")
    status, _, err = call("bench cuda", capsys)
    assert (status, err) == (2, "minise: the cuda back end cannot run: CuPy is not installed\n")


def test_the_command_from_end_to_end(capsys, monkeypatch, tmp_path):
    """With the emulator for a GPU and a still clock."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setitem(__import__("sys").modules, "cupy", ModuleType("cupy"))
    monkeypatch.setattr(compare, "shapes", lambda: SMALL)
    monkeypatch.setattr("minise.bench.gpu_clock.Clock", lambda cupy, rounds: StillClock())
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
    assert "every figure is in figures.json" in out
    assert len(json.loads(Path("figures.json").read_text())["rows"]) == 8
    monkeypatch.setattr(compare, "MAX_ERROR", 0.0)
    status, _, err = call(line, capsys)
    assert status == 1
    assert err.startswith("minise: too far from float64: minise, simple at squeeze-excite")
