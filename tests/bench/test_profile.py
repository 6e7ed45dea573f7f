"""Costs of ops by hand, and a profile of a small net."""

import json

import numpy as np
import pytest

from minise import nn
from minise.bench import profile
from minise.bench.net_settings import ProfileSettings
from minise.bench.profile import LOSS, CostRecorder, prepare, result_of
from minise.ops import reference

RATES = profile.Rates(macs=1e9, bytes=1e9)
F = np.float32


@pytest.fixture(autouse=True)
def _quick_measurement(monkeypatch):
    monkeypatch.setattr(profile, "MATRIX_SIDE", 64)
    monkeypatch.setattr(profile, "COPY_BYTES", 2**16 + 1)  # odd: not divisible by two threads


def small(**values):
    return ProfileSettings(**{"net": "se_resnet8", "batch": 2, "threads": 1, "steps": 2, **values})


def test_the_cost_of_a_convolution():
    """2 * 4 * 5 * 6 outputs of 3 * 9 products each; 4 bytes per number."""
    recorder = CostRecorder(reference)
    x, weight = np.ones((2, 3, 5, 6), F), np.ones((4, 3, 3, 3), F)
    out, cache = recorder.conv2d_forward(x, weight, padding=(1, 1))
    recorder.conv2d_backward(np.ones_like(out), cache)
    macs = out.size * 27
    arrays = 4 * (x.size + weight.size)
    (forward,) = recorder.costs["", "conv2d", "forward"]
    (backward,) = recorder.costs["", "conv2d", "backward"]
    assert forward == (macs, arrays + 4 * out.size)
    assert backward == (2 * macs, 2 * arrays + 4 * out.size)


def test_views_move_no_bytes_and_an_array_counts_once():
    recorder = CostRecorder(reference)
    x = np.ones((2, 3, 4, 4), F)
    out, cache = recorder.add_forward(x, x)
    recorder.add_backward(out, cache)  # returns dout twice
    _, cache = recorder.concat_forward(x, x[:, :1])
    assert recorder.costs["", "add", "forward"] == [(0, 4 * 2 * x.size)]
    assert recorder.costs["", "add", "backward"] == [(0, 0)]
    assert recorder.costs["", "concat", "forward"] == [(0, 4 * 2 * (x.size + x.size // 3))]


def test_arrays_in_nested_caches_count():
    recorder = CostRecorder(reference)
    x, ones = np.ones((2, 3, 4, 4), F), np.ones(3, F)
    settings = dict(running_mean=ones, running_var=ones, training=True)
    out, cache = reference.batch_norm2d_relu_forward(x, ones, ones, **settings)
    recorder.batch_norm2d_relu_backward(x, cache)
    read = [x, out, ones, *cache.norm[3:7]]  # x is also dout; ones is gamma and beta
    written = x.nbytes + 2 * ones.nbytes
    assert recorder.costs["", "batch_norm2d_relu", "backward"] == [
        (0, sum(array.nbytes for array in read) + written)
    ]


def test_the_floor_is_the_larger_of_both():
    assert RATES.floor(2e9, 1e9) == 2
    assert RATES.floor(1e9, 3e9) == 3


def test_rates_of_this_machine():
    for threads in (1, 2):
        assert min(profile.measure_rates(threads, "float32")) > 0


@pytest.mark.parametrize("ops", ["reference", "minise.bench.peers.im2col"])
def test_a_profile(ops):
    settings = small(ops=ops)
    measured = profile.profile(prepare(settings), settings)
    keys = [entry[:3] for entry in measured.entries]
    assert len(set(keys)) == len(keys)
    assert ("conv1", "conv2d", "forward") in keys
    assert ("layer3.0.se", "se_block_tail", "backward") in keys
    assert (LOSS, "softmax_cross_entropy", "forward") in keys
    ways = {way: {op for _, op, of in keys if of == way} for way in ("forward", "backward")}
    assert ways["forward"] == ways["backward"]  # the two gradients of x add up in conv2d's
    assert all(entry.seconds > 0 for entry in measured.entries)
    assert measured.sum > measured.outside > 0
    assert measured.step > 0
    calls = sum(entry.calls for entry in measured.entries if entry.op == "conv2d")
    assert calls == 2 * 9  # of 3x3: 1 and 2 in each of 3 units; of 1x1: 2


def test_the_tables():
    settings = small(layers=3)
    measured = profile.profile(prepare(settings), settings)
    result = result_of(measured, settings)
    ops_table, layers_table = result.tables
    assert len(layers_table.rows) == 3
    ops = {entry[1:3] for entry in measured.entries}
    assert len([row for row in ops_table.rows if row]) == len(ops) + 3
    content = json.loads(json.dumps(result.as_json()))
    assert content["step_seconds"] == measured.step
    assert content["rows"][0]["floor"] == measured.entries[0].floor


def own_net():
    """Two branches, for one input channel; a 1x1 convolution occurs twice (tied weights)."""
    shared = nn.Conv2d(4, 4, 1, rng=2)
    inner = nn.Chain(shared, nn.NormReLU(4), shared)
    branches = nn.Branches(("a", nn.Residual(inner)), ("b", nn.Conv2d(4, 2, 3, padding=1)))
    head = nn.GlobalAvgPool2d(), nn.Linear(6, 5)
    return nn.Chain(("stem", nn.Conv2d(1, 4, 3, padding=1)), ("", branches), *head)


def test_a_net_of_the_users_own_is_profiled_as_it_is_declared():
    net, settings = own_net(), small()
    before = {name: array.copy() for name, array in net.named_parameters().items()}
    measured = profile.profile(net, settings)
    calls = {entry[:3]: entry.calls for entry in measured.entries}
    ops = {"stem": "conv2d", "b": "conv2d", "a": "relu", "a.1": "batch_norm2d_relu"}
    for layer, op in ops.items():
        assert calls[layer, op, "forward"] == calls[layer, op, "backward"] == 1
    assert calls["a", "add", "forward"] == 2  # the second adds the gradient of the other branch
    assert calls["a.0", "conv2d", "forward"] == calls["a.0", "conv2d", "backward"] == 2
    for name, array in net.named_parameters().items():
        np.testing.assert_array_equal(array, before[name])
    assert all(module.ops is reference for _, module in net.layers())


def test_a_profile_of_inputs_of_the_users_own():
    net = nn.Chain(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3))
    batch = np.ones((4, 7), F), np.array([0, 1, 2, 1])
    measured = profile.profile(net, small(), batch)
    assert ("0", "linear", "backward") in {entry[:3] for entry in measured.entries}
