"""Dumps of guarded runs: every NaN leaves one, and its replay has the same number in the same call.

The net has every kind of layer with a state of its own: convolutions, normalisation, an SE block,
dropout. Each fault of FAULTS is planted in a run with micro-batches and label smoothing.
"""

import errno
import os
import shutil
from typing import NamedTuple

import numpy as np
import pytest

from minise import files, nn
from minise.ops import jit, reference, wrap
from minise.ops.jit.vector.simd import AS_LOOPS
from minise.train import SGD, SoftmaxCrossEntropy, checkpoint, dump, replay, run
from tests.train.regression import SquaredError, pairs, quiet
from tests.train.regression import net as regression_net

STEPS, SIZE, CLASSES = 2, 4, 3


def small_net(ops=reference):
    """Return a net from images (N, 2, 4, 4) to three logits."""
    return nn.Chain(
        ("conv", nn.Conv2d(2, 4, 3, padding="same", bias=True, ops=ops, rng=0)),
        ("norm", nn.NormReLU(4, ops=ops)),
        ("se", nn.SEBlock(4, nn.SE(reduction=2), ops=ops, rng=1)),
        ("drop", nn.Dropout(0.3, ops=ops, rng=2)),
        ("pool", nn.GlobalAvgPool2d(ops=ops)),
        ("fc", nn.Linear(4, CLASSES, ops=ops, rng=3)),
    )


class Fault(NamedTuple):
    """Where and when a value is planted."""

    kind: str  # "parameter", "state", "velocity", "image", "forward", "backward", …
    name: str  # of the array; of calls, their number
    value: float = np.nan


PARAMETERS = small_net().named_parameters()
STATE = [name for name in small_net().named_state() if "running" in name]
FAULTS = [
    *(Fault("parameter", name, value) for name in PARAMETERS for value in (np.nan, -np.inf)),
    *(Fault("velocity", name) for name in PARAMETERS),
    *(Fault("state", name) for name in STATE),
    *(Fault("image", name) for name in ("first", "second", "val", "test")),
    *(Fault("forward", str(k), np.inf) for k in range(7)),
    *(Fault("backward", str(k)) for k in range(6)),
]
QUICK = FAULTS[::3]


class Planter(wrap.Wrapper):
    """Overwrites a value in the results of one call of a forward or a backward, once armed."""

    def __init__(self, ops, fault):
        super().__init__(ops)
        self.fault, self.calls_left = fault, -1

    def arm(self):
        if self.fault.kind in ("forward", "backward"):
            self.calls_left = int(self.fault.name)

    def planted(self, direction, array):
        if array is None or direction != self.fault.kind:
            return array
        self.calls_left -= 1
        if self.calls_left != -1:
            return array
        array = np.array(array)
        array.flat[-1] = self.fault.value
        return array

    def _forward(self, layer, op, function, *arrays, **settings):
        out, cache = function(*arrays, **settings)
        return self.planted("forward", out), cache

    def _backward(self, layer, op, function, dout, cache, **settings):
        first, *rest = function(dout, cache, **settings)
        return self.planted("backward", first), *rest

    def observe(self, call):
        pass


class Subject:
    """A guarded run in whose second step, or evaluation, a value is planted."""

    def __init__(self, fault, ops):
        self.fault, self.ops = fault, ops
        self.planter = Planter(ops, fault)
        self.net = small_net(ops)
        wrap.attach(self.net, wrap.guarded(self.planter))
        self.objective = SoftmaxCrossEntropy(self.net.ops, label_smoothing=0.1)
        self.optimiser = SGD(self.net, nesterov=True, weight_decay=1e-3)
        self.before = {}

    def __len__(self):
        return 2 * STEPS  # micro-batches

    def epoch(self, epoch):
        for k in range(len(self)):
            x, labels = batch(k)
            if k == 2:  # the first micro-batch of the second step
                self.plant()
            if (self.fault, k) in ((Fault("image", "first"), 2), (Fault("image", "second"), 3)):
                x[1, 0, 2, 3] = self.fault.value
            if k == 3:
                self.before = {n: a.copy() for n, a in self.net.named_arrays().items()}
                self.planter.arm()
            yield x, labels

    def plant(self):
        arrays = {
            "parameter": self.net.named_parameters(),
            "state": self.net.named_state(),
            "velocity": self.optimiser.velocity,
        }.get(self.fault.kind)
        if arrays is not None:
            arrays[self.fault.name].flat[-1] = self.fault.value

    def run(self, out, **settings):
        """Train; return the error."""
        evaluations = {}
        for name in ("val", "test"):
            x, labels = batch(10)
            if self.fault == Fault("image", name):
                x[3, 1, 0, 1] = self.fault.value
            evaluations[name] = [batch(11), (x, labels)]
        settings = dict(epochs=1, lr=0.1, accumulate=2, console=quiet(), **settings)
        with pytest.raises(wrap.NonFiniteError) as caught:
            run(
                self.net,
                self.objective,
                self,
                self.optimiser,
                **evaluations,
                out=out,
                name="a",
                **settings,
            )
        return caught.value


def batch(seed):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((SIZE, 2, 4, 4)).astype(np.float32)
    return images, rng.integers(0, CLASSES, SIZE)


def check(fault, ops, out):
    """Plant a value in a run; check the message, the dump, the net and the replay."""
    subject = Subject(fault, ops)
    error = subject.run(out)
    file = out / "a" / "guard.safetensors"
    command = f"train.replay({str(file)!r}, net, objective)"
    assert str(error).endswith(f"{file} has the inputs and parameters (0.0 MB): {command}")
    written = dump.load(out / "a")
    in_evaluation = fault.kind == "image" and fault.name in ("val", "test")
    expected = {"val": "validation", "test": "test"}[fault.name] if in_evaluation else "training"
    assert (written.phase, written.step, written.epoch) == (expected, STEPS, 1)
    assert written.nonfinite == error.nonfinite
    assert len(written.batches) == (1 if in_evaluation else 2)
    assert bool(written.optimiser_arrays) == (fault.kind == "velocity")
    for name, array in subject.net.named_arrays().items():
        np.testing.assert_array_equal(written.arrays[name], array, err_msg=name)
        if not in_evaluation:
            np.testing.assert_array_equal(subject.before[name], array, err_msg=name)
    fresh = Subject(fault, ops)
    fresh.planter.arm()
    arrays = {name: array.copy() for name, array in fresh.net.named_arrays().items()}
    again = replay(file, fresh.net)
    assert again is not None
    assert again.same, (again.nonfinite, error.nonfinite)
    assert again.nonfinite == error.nonfinite
    for name, array in fresh.net.named_arrays().items():
        np.testing.assert_array_equal(array, arrays[name])  # replay uses a copy
    assert {array.name for array in again.inputs} == {*error.inputs}


@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: f"{fault.kind} {fault.name}")
def test_a_dump_of_every_kind_of_fault_is_replayed(fault, tmp_path):
    check(fault, reference, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "ops",
    [
        pytest.param(reference, id="reference"),
        pytest.param(jit, id="jit", marks=pytest.mark.skipif(AS_LOOPS, reason="too slow")),
    ],
)
def test_a_dump_of_every_fault_is_replayed(ops, tmp_path):
    assert len(FAULTS) >= 30
    for k, fault in enumerate(FAULTS):
        check(fault, ops, tmp_path / str(k))


# Nets, objectives and batches of a user's own


class Pairs(SquaredError):
    """Squared error of targets that are a tuple."""

    def forward(self, out, targets):
        return super().forward(out, np.stack(targets, 1))

    def metrics(self, out, targets):
        return {}


class NotSGD(SGD):
    """An optimiser of a user's own, which makes a velocity NaN."""

    def step(self, grads, lr):
        self.velocity["fc.bias"][0] = np.nan
        super().step(grads, lr)


def own_run(out, batches, objective=None, optimiser=SGD, guard=wrap.guarded, **settings):
    """Train a guarded net of a user's own; return it and the error."""
    net = regression_net()
    wrap.attach(net, guard(reference))
    arguments = objective or SquaredError(), batches, optimiser(net)
    settings = dict(dict(epochs=1, lr=0.1, name="a", console=quiet()), **settings)
    with pytest.raises(FloatingPointError) as caught:
        run(net, *arguments, out=out, **settings)
    return net, caught.value


def test_an_objective_without_a_guard_is_named(tmp_path):
    batches = pairs()
    batches[1][1][2, 1] = np.nan
    _, error = own_run(tmp_path, batches)
    message = "layer (none), SquaredError_forward: its result loss has 1 of 1 numbers not finite"
    assert str(error).startswith(message)
    assert dump.load(tmp_path / "a").step == 2
    assert replay(tmp_path / "a", regression_net(), SquaredError()).same
    with pytest.raises(ValueError, match="^replay: objective is None, expected a SquaredError as"):
        replay(tmp_path / "a", regression_net())
    with pytest.raises(ValueError, match="^replay: net is None, expected a net built like"):
        replay(tmp_path / "a")
    with pytest.raises(ValueError, match="the dump does not fit the net"):
        replay(tmp_path / "a", small_net(), SquaredError())


def test_targets_that_are_a_tuple(tmp_path):
    batches = [(x, tuple(targets.T)) for x, targets in pairs()]
    batches[2][0][5, 0, 3, 3] = np.inf
    own_run(tmp_path, batches, Pairs())
    written = dump.load(tmp_path / "a")
    assert [type(targets) for _, targets in written.batches] == [tuple]
    np.testing.assert_array_equal(written.batches[0][1], batches[2][1])
    assert replay(written, regression_net(), Pairs()).same


@pytest.mark.parametrize("targets", [{}, np.array(["a"] * 6), np.zeros(6, complex)])
def test_targets_that_cannot_be_written(targets, tmp_path):
    """The error keeps its message, and says why there is no dump."""
    x, _ = pairs()[0]
    x[0] = np.nan
    _, error = own_run(tmp_path, [(x, targets)])
    path = tmp_path / "a" / "guard.safetensors"
    assert str(error).startswith("layer conv, conv2d_forward: its input x has 16 of 96 ")
    assert f"; {path} is not written: targets of a batch are " in str(error)
    assert not path.exists()


def test_an_optimiser_of_a_users_own(tmp_path):
    _, error = own_run(tmp_path, pairs(), optimiser=NotSGD)
    assert error.direction == "update"
    with pytest.raises(ValueError, match="^replay: the optimiser is a NotSGD, expected SGD"):
        replay(tmp_path / "a", regression_net(), SquaredError())


def test_a_run_that_diverges(tmp_path):
    """Nothing is planted: the numbers of the replay overflow at the same index."""
    for k, lr in enumerate((1e3, 1e4, 1e5, 1e6)):
        _, error = own_run(tmp_path, pairs(150), name=str(k), lr=lr)
        again = replay(tmp_path / str(k), regression_net(), SquaredError())
        assert again.same
        assert again.nonfinite == error.nonfinite


def test_a_net_without_a_guard_writes_no_dump(tmp_path):
    own_run(tmp_path, pairs(150), lr=1e6, guard=lambda ops: ops)
    assert not (tmp_path / "a" / dump.NAME).exists()


def test_another_back_end(tmp_path):
    """The back end of the replay is an argument: the planted call is only in the run's."""
    fault = Fault("forward", "3", np.inf)
    Subject(fault, reference).run(tmp_path)
    assert replay(tmp_path / "a", small_net()) is None
    assert replay(tmp_path / "a", small_net(), ops="reference") is None
    planter = Planter(reference, fault)
    assert replay(tmp_path / "a", small_net(), ops=planter) is None
    planter.arm()
    assert replay(tmp_path / "a", small_net(), ops=planter).same


def test_the_masks_of_a_dropout_layer_are_those_of_the_run(tmp_path):
    """They are drawn from the seed and the counter in the dump, whatever the net's own seed is."""
    fault = Fault("backward", "5", np.nan)
    error = Subject(fault, reference).run(tmp_path)
    fresh = Subject(fault, reference)
    fresh.net["drop"].state["seed"][...] = 99
    fresh.planter.arm()
    again = replay(tmp_path / "a", fresh.net)
    assert again.same
    expected = [np.asarray(array) for array in error.inputs.values()]
    assert [array.mean_abs for array in again.inputs] == [
        np.abs(array[np.isfinite(array)], dtype=np.float64).mean() for array in expected
    ]


def test_the_first_array_of_the_net_that_is_not_finite(tmp_path):
    Subject(Fault("state", "norm.running_var"), reference).run(tmp_path)
    again = replay(tmp_path / "a", small_net())
    assert again.state.startswith("layer norm, running statistic running_var: 1 of 4 numbers are")
    (statistics,) = (array for array in again.inputs if array.name == "running_var")
    assert (statistics.shape, statistics.dtype, statistics.not_finite) == ((4,), "float32", 1)
    assert 0 < statistics.low <= statistics.mean_abs <= statistics.high < 2


# Files


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the file of a dump."""
    out = tmp_path_factory.mktemp("dump")
    Subject(Fault("velocity", "fc.bias"), reference).run(out)
    return out / "a" / dump.NAME


def failing(monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(os, "fsync", fail)


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")],
)
def test_a_full_disk_does_not_hide_the_nan(number, reason, tmp_path, monkeypatch):
    subject = Subject(Fault("image", "first"), reference)
    plant = subject.plant
    subject.plant = lambda: (plant(), failing(monkeypatch, OSError(number, os.strerror(number))))
    error = subject.run(tmp_path)
    path = tmp_path / "a" / dump.NAME
    assert str(error).startswith("layer conv, conv2d_forward: its input x has 1 of 128 ")
    assert f"; {path} is not written: {path} cannot be written ({reason}" in str(error)
    assert "\n" not in str(error)
    names = {file.name for file in path.parent.iterdir()}
    assert names == {"config.json", "metrics.jsonl", "last.safetensors"}


def test_memory_runs_out(tmp_path, monkeypatch):
    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(files, "write", fail)
    error = Subject(Fault("image", "first"), reference).run(tmp_path)
    assert str(error).endswith("guard.safetensors is not written: out of memory")


def test_a_dump_is_bit_identical_after_reading_and_writing(written, tmp_path):
    dump.write(tmp_path / "b", dump.load(written))
    before, after = (files.read(path, files.GUARD) for path in (written, tmp_path / "b"))
    assert after.texts == before.texts
    assert after.arrays.keys() == before.arrays.keys()
    for name, array in before.arrays.items():
        assert (array.dtype, array.shape) == (after.arrays[name].dtype, after.arrays[name].shape)
        assert array.tobytes() == after.arrays[name].tobytes()


def test_only_what_is_needed_is_written(written):
    """A dump has the optimiser's arrays only if an update failed."""
    arrays = files.read(written, files.GUARD).arrays
    assert {name.partition("/")[0] for name in arrays} == {"net", "optimiser", "batch"}
    size = sum(array.nbytes for array in arrays.values())
    assert size <= written.stat().st_size < size + 8000


def test_every_truncation_and_flipped_bit_is_told(written, tmp_path):
    content, path = written.read_bytes(), tmp_path / "b"
    for size in np.linspace(0, len(content) - 1, 40, dtype=int):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=f"^{path} is "):
            dump.load(path)
    for position in np.linspace(0, len(content) - 1, 100, dtype=int):
        changed = bytearray(content)
        changed[position] ^= 1 << (position % 8)
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=f"^{path} (is|has) "):
            dump.load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("phase", "rest"),
        ("phase", None),
        ("step", "1"),
        ("lr", "fast"),
        ("threads", [1]),
        ("config", []),
        ("config", {"model": "se_resnet8", "lrr": 1}),
        ("data", None),
        ("objective", 1),
        ("nonfinite", {}),
        ("nonfinite", None),
        ("nonfinite", {"index": 3}),
        ("nonfinite", {"index": [None]}),
        ("nonfinite", {"layer": 3}),
    ],
)
def test_headers_that_minise_does_not_write(name, value, written, tmp_path):
    file = files.read(written, files.GUARD)
    if name == "nonfinite" and value:
        value = file.texts[name] | value
    files.write(tmp_path / "b", files.GUARD, file.arrays, file.texts | {name: value})
    with pytest.raises(ValueError, match=f"^{tmp_path / 'b'} is not a dump that "):
        dump.load(tmp_path / "b")


@pytest.mark.parametrize("missing", ["batch/0/inputs", "batch/0/targets", "batch/", "nonfinite"])
def test_missing_parts(missing, written, tmp_path):
    file = files.read(written, files.GUARD)
    arrays = {name: a for name, a in file.arrays.items() if not name.startswith(missing)}
    texts = {name: text for name, text in file.texts.items() if name != missing}
    files.write(tmp_path / "b", files.GUARD, arrays, texts)
    with pytest.raises(ValueError, match=f"^{tmp_path / 'b'} is not a dump that "):
        dump.load(tmp_path / "b")


def test_files_that_are_no_dump(written, tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(FileNotFoundError, match=f"^{path} does not exist, expected a dump "):
        dump.load(path)
    with pytest.raises(FileNotFoundError, match=f"^{tmp_path}/guard.safetensors does not exist, e"):
        dump.load(tmp_path)
    checkpoint.save(path, checkpoint.Checkpoint({}, {}, {}, {}, {}))
    with pytest.raises(ValueError, match="expected 'minise-guard-1': it is a checkpoint, which"):
        dump.load(path)
    nn.save(small_net(), path)
    with pytest.raises(ValueError, match="expected 'minise-guard-1': minise.nn.load reads it"):
        dump.load(path)
    shutil.copy(written, path)
    with pytest.raises(ValueError, match="expected 'minise-checkpoint-1': it is a dump, which"):
        checkpoint.load(path)
    files.write(path, "minise-guard-2", {}, {})
    with pytest.raises(ValueError, match="expected 'minise-guard-1': .*, upgrade minise$"):
        dump.load(path)


def test_an_optimiser_of_another_net(written):
    loaded = dump.load(written)
    loaded.optimiser_arrays.pop("velocity/fc.bias")
    with pytest.raises(ValueError, match="the optimiser's arrays in the dump do not fit the net"):
        replay(loaded, small_net())
