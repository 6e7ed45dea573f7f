"""The predicted memory of training steps, by hand and against measurements."""

import gc
import sys
import time
import tracemalloc

import numpy as np
import pytest

from minise import models, nn
from minise.analysis import memory_of
from minise.analysis.cost import cost_of
from minise.cli import main
from minise.ops import cost, jit, reference
from minise.ops.jit.vector import memory as allocator
from minise.train import SGD, SoftmaxCrossEntropy, train_step
from tests.analysis import peaks

MB = 1e6


def real_step(name, batch_size, ops):
    """Return a function that takes a training step on random images of 32 x 32."""
    net = models.build(name, ops=ops)
    x = np.random.default_rng(0).standard_normal((batch_size, 3, 32, 32), np.float32)
    parts = net, SoftmaxCrossEntropy(ops), SGD(net, 0.9)
    return lambda: train_step(*parts, [(x, np.zeros(batch_size, int))], 0.01)


def test_by_hand():
    """A convolution without bias, a ReLU, a mean and a dense layer, on two images of 4 x 4."""
    net = nn.Chain(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.GlobalAvgPool2d(), nn.Linear(5, 2))
    memory = memory_of(net, 2, (4, 4))
    assert memory.parameters == memory.velocities == memory.gradients == 4 * (15 + 12)
    assert memory.statistics == 0
    image = 2 * 5 * 16 * 4
    assert memory.saved == image + 2 * 5 * 4 + 2 * 2 * 4  # of the ReLU, the mean, and the logits
    assert memory.peak > memory.saved + 2 * memory.parameters + 2 * 3 * 16 * 4


def test_the_step_of_training_needs_as_much():
    """memory_of's own step has the peak of train.train_step on the same back end."""
    ops = cost.modelled("jit")
    net = models.build("se_resnet20", ops=ops)
    parts = net, SoftmaxCrossEntropy(ops), SGD(net, 0.9)
    batch = ops.shaped((64, 3, 32, 32), np.float32), ops.shaped((64,), int)
    ops.ledger.reset()
    for _ in range(2):
        train_step(*parts, [batch], 0.01)
    predicted = memory_of("se_resnet20", 64, ops="jit").peak
    assert ops.ledger.peak == pytest.approx(predicted, rel=0.01)


def test_reference_against_numpys_own_count():
    step = real_step("se_resnet8", 8, reference)
    step()
    tracemalloc.start()
    step()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    memory, images = memory_of("se_resnet8", 8), 8 * 3 * 32 * 32 * 4
    before = memory.parameters + memory.velocities + memory.statistics + images
    assert memory.peak / cost.HEAP["reference"] - before == pytest.approx(most, rel=0.03)


@pytest.mark.slow
def test_jit_against_its_allocators_counters():
    gc.collect()
    allocator.release()
    before = allocator._region.used_bytes
    step = real_step("se_resnet8", 64, jit)
    for _ in range(3):
        step()
    ops = cost.modelled("jit")
    net = models.build("se_resnet8", ops=ops)
    parts = net, SoftmaxCrossEntropy(ops), SGD(net, 0.9)
    batch = ops.shaped((64, 3, 32, 32), np.float32), ops.shaped((64,), int)
    for _ in range(3):
        train_step(*parts, [batch], 0.01)
    ledger = ops.ledger
    assert ledger.most_used == pytest.approx(allocator._region.peak - before, rel=0.03)
    assert allocator._region.touched_bytes < 1.1 * (before + ledger.most_used)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize(("model", "batch_size", "ops"), peaks.CASES)
def test_resident_memory_of_a_process(model, batch_size, ops):
    predicted = memory_of(model, batch_size, ops=ops).peak
    assert predicted == pytest.approx(peaks.measured(model, batch_size, ops), rel=peaks.TOLERANCE)


def test_a_prediction_takes_no_time_and_no_memory():
    """Neither grows with the batch; a second of a machine that does other things is 20 of these."""
    seconds, most = [], []
    for batch_size in (1, 1_000_000):
        tracemalloc.start()
        start = time.process_time()
        memory_of("se_resnet8", batch_size)
        seconds.append(time.process_time() - start)
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert most[1] < most[0] + 1 * MB < 10 * MB
    assert seconds[1] < 10 * seconds[0]


def test_a_net_of_the_users_own_is_left_as_it_was():
    net = models.build("se_resnet8", ops=reference)
    before = {name: array.copy() for name, array in net.named_arrays().items()}
    assert memory_of(net, 16) == memory_of("se_resnet8", 16)
    assert all(layer.ops is reference for _, layer in net.layers())
    assert all((net.named_arrays()[name] == array).all() for name, array in before.items())


def test_masks_are_not_drawn():
    """A mask has one byte for each number, and a batch of a terabyte takes none."""
    layers = nn.Conv2d(3, 4, 1), nn.ReLU()
    plain, net = nn.Chain(*layers), nn.Chain(*layers, nn.Dropout(0.5))
    more = [memory_of(each, 1 << 30, (8, 8)).saved for each in (plain, net)]
    assert more[1] - more[0] == (1 << 30) * 4 * 8 * 8 * (4 + 1)  # the output and the mask


def test_settings_of_a_model():
    few, many = (memory_of("resnet8", 4, num_classes=k).parameters for k in (10, 100))
    assert many - few == 4 * 90 * 65


def without_saved(costs):
    """Return the rows without the bytes saved for backward, which are counted on shapes only."""
    part = [row.excitation and row.excitation._replace(saved=0) for row in costs.layers]
    rows = zip(costs.layers, part, strict=True)
    return [row._replace(saved=0, excitation=excitation) for row, excitation in rows]


@pytest.mark.parametrize("name", ["se_resnet20", "preact_resnet110", "se_wrn_16_8"])
def test_costs_are_those_of_a_computed_pass(name, monkeypatch):
    net = models.build(name)
    ours = cost_of(net, 16)
    monkeypatch.setattr("minise.analysis.cost.on_shapes", None)  # then it computes
    computed = cost_of(net, 16)
    assert (computed.memory, computed.saved) == (None, None)
    assert without_saved(computed) == without_saved(ours)


def test_costs_of_a_layer_that_needs_elements():
    class Own(nn.ReLU):
        def forward(self, x, training):
            if isinstance(x, cost.ShapeArray):
                raise NotImplementedError
            return super().forward(x, training)

    (row,) = cost_of(nn.Chain(Own()), 4).layers
    assert row.shape == (3, 4, 4)


def test_summary_shows_the_memory_of_a_step(capsys):
    assert main(["summary", "se_resnet8", "--batch-size", "64", "--ops", "jit"]) == 0
    lines = capsys.readouterr().out.splitlines()
    memory = memory_of("se_resnet8", 64, ops="jit")
    assert lines[-2] == (
        f"predicted peak memory of a training step on 64 images with jit: {memory.peak / MB:.1f} "
        f"MB, of which {memory.saved / MB:.1f} MB are saved by forward for backward"
    )
    parameters, statistics = memory.parameters / 1e3, memory.statistics / 1e3
    assert lines[-1].startswith(
        f"parameters {parameters:.1f} kB, running statistics {statistics:.1f} kB, velocities "
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("--batch-size 0", "cost_of: batch_size is 0, expected at least 1"),
        ("--batch-size 2 --ops mine", "ops is 'mine', expected one of reference, jit, cuda"),
        ("--batch-size 2 --size 0 4", "cost_of: size (rows) is 0, expected at least 1"),
    ],
)
def test_bad_input_is_one_line(options, text, capsys):
    assert main(["summary", "resnet8", *options.split()]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


def test_messages():
    with pytest.raises(ValueError, match=r"memory_of: size \(rows\) is 0, expected at least 1"):
        memory_of("resnet8", 2, (0, 4))
    with pytest.raises(TypeError, match=r"memory_of: batch_size is 2.5, expected an integer"):
        memory_of("resnet8", 2.5)


def test_a_size_that_the_net_cannot_process():
    with pytest.raises(ValueError, match=r"conv2d: .*the kernel spans 3"):
        memory_of(nn.Chain(nn.Conv2d(3, 4, 3)), 2, (2, 2))
