"""Workloads: the ops of nets and the blocks, their titles and their arrays."""

import numpy as np

from minise import nn
from minise.bench import peers
from minise.bench.net_settings import CompareSettings
from minise.bench.workloads import (
    BLOCKS,
    arrays_of,
    build_block,
    gated_arrays_of,
    op_workloads,
    title,
    workloads_of,
)

OPS = workloads_of(CompareSettings(what=("ops",), net="se_resnet8", batch=4, threads=1))
BLOCK_WORKLOADS = workloads_of(CompareSettings(what=("blocks",), batch=2, threads=1))


def test_a_repeated_workload_is_measured_once():
    what = ("forward", "step", "forward")
    workloads = workloads_of(CompareSettings(what=what, net="se_resnet8"))
    assert [title(workload) for workload in workloads] == ["inference", "training step"]


def test_op_workloads_are_those_of_the_net():
    titles = [title(workload) for workload in OPS]
    assert titles[0] == "conv2d 3x3, 3 to 16, 32x32"
    assert "conv2d 1x1 /2, 16 to 32, 32x32" in titles
    assert "conv2d 3x3 /2, 32 to 64, 16x16" in titles
    assert "batch norm + squeeze-excite R=4 + add + ReLU, 64, 8x8" in titles
    assert "batch norm + ReLU, 32, 16x16" in titles
    assert len(set(titles)) == len(titles)


def test_the_blocks():
    assert [title(workload) for workload in BLOCK_WORKLOADS] == [
        "block depthwise 3x3 + 1x1, 128, 16x16",
        "block 1x1 + 3x3 in 32 groups + 1x1, 128, 16x16",
    ]
    shapes = {name: array.shape for name, array in arrays_of(BLOCK_WORKLOADS[0], "float32").items()}
    assert shapes == dict(x=(2, 128, 16, 16), dout=(2, 128, 16, 16))
    names = ("minise", "torch", "torch-channels-last", "torch-compile", "numpy-im2col")
    supporting = [name for name in names if peers.supports(name, BLOCK_WORKLOADS[0])]
    assert supporting == ["minise", "torch", "torch-channels-last"]


def test_parameters_by_hand():
    """3x3 depthwise, or 3x3 in 32 groups of 4x4; 1x1 convolutions; gamma and beta of two norms."""
    C, norms = 128, 4 * 128
    counts = [
        sum(array.size for array in build_block(name).named_parameters().values())
        for name in BLOCKS
    ]
    assert counts == [9 * C + C * C + norms, 2 * C * C + 32 * 4 * 4 * 9 + norms]


def test_ops_in_groups():
    """A 3x3 convolution in three groups, which im2col does not support."""
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, groups=3), nn.Conv2d(6, 2, 1))
    grouped, plain = op_workloads(net, 2)
    assert title(grouped) == "conv2d 3x3 in 3 groups, 3 to 6, 32x32"
    assert arrays_of(grouped, "float32")["weight"].shape == (6, 1, 3, 3)
    assert not peers.supports("numpy-im2col", grouped)
    assert peers.supports("numpy-im2col", plain)


def test_weights_of_gates_are_scaled():
    """Weights are divided by the root of their fan-in, so that u and v have variance near 1."""
    workload = {"kind": "op", "op": "squeeze_excite", "N": 1, "C": 64, "H": 2, "W": 2, "R": 16}
    arrays, gated = arrays_of(workload, "float32"), gated_arrays_of(workload)
    np.testing.assert_allclose(gated["w1"], arrays["w1"] / 8, rtol=1e-6)
    np.testing.assert_allclose(gated["w2"], arrays["w2"] / 4, rtol=1e-6)
    np.testing.assert_array_equal(gated["x"], arrays["x"])
