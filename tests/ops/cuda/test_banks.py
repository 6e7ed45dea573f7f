"""No kernel's access to shared memory takes more wavefronts than necessary."""

import re

import numpy as np
import pytest

from minise.contract.case import Case
from minise.ops.cuda.backend import Backend
from minise.ops.cuda.sources import parameters, source
from tests.ops.cuda.accuracy import max_relative_error
from tests.ops.cuda.banks import Recorder, wavefronts
from tests.ops.cuda.compiler import FILES
from tests.ops.cuda.device import device
from tests.ops.cuda.hosted import Hosted

SHAPES = {
    "rows of a warp": dict(N=1, C=16, H=32, W=32, R=4),
    "rows of half a warp": dict(N=1, C=32, H=8, W=8, R=8),
    "rows of single numbers": dict(N=2, C=37, H=7, W=7, R=6),
}
# runs for larger weights than these shapes have, with the device functions of excite_backward
NOT_RECORDED = {"dense_layer_backward"}

pytestmark = pytest.mark.long


def recorded(sizes, dtype, edit=lambda text: text):
    """Return the Traffic of the kernels of the SE ops and the loss, forward and backward."""
    launcher = Recorder(device, edit=edit)
    ops, case = Hosted(Backend(launcher)), Case("squeeze_excite", sizes)
    max_relative_error(ops, case, dtype=dtype)
    max_relative_error(ops.using(squeeze_excite="simple"), case, dtype=dtype)
    max_relative_error(ops, Case("se_block_tail", sizes, dict(training=True)), dtype=dtype)
    max_relative_error(ops, Case("softmax_cross_entropy", dict(N=9, K=5)), dtype=dtype)
    return launcher.traffic


def conflicts(traffic):
    """Return the accesses with bank conflicts as text, each location once."""
    return sorted({str(access) for access in traffic if access.wavefronts > access.minimum})


@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
def test_no_bank_conflicts(sizes):
    assert conflicts(recorded(sizes, np.float32)) == []


def test_no_bank_conflicts_in_double_precision():
    assert conflicts(recorded(SHAPES["rows of half a warp"], np.float64)) == []


def test_every_kernel_with_shared_memory_is_recorded():
    shared = {
        kernel
        for text in (source(file, np.dtype(np.float32)).text for file in FILES)
        for kernel in parameters(text)
        if "__shared__" in re.split(rf"\b{kernel}\(", text)[-1].partition("\n}")[0]
    }
    traffic = recorded(SHAPES["rows of half a warp"], np.float32)
    assert shared - {access.kernel for access in traffic} == NOT_RECORDED


def test_a_planted_conflict_is_found():
    """Lanes that store at a stride of four words need four wavefronts."""

    def transpose(text):
        return re.sub(r"(\w+)\[(\w+)\]\[(\w+)\]\[(lane|WARP)\]", r"\1[\2][\4][\3]", text)

    lines = conflicts(recorded(SHAPES["rows of half a warp"], np.float32, transpose))
    assert lines
    for line in lines:
        assert re.match(r"weight_gradients: squeeze_excite.cu:\d+: 4.00 times", line), lines


def test_wavefronts_by_hand():
    def access(size, stride, lanes=32):
        return wavefronts([(lane, lane * stride, size) for lane in range(lanes)])

    assert access(4, 4) == (1, 1)
    assert access(4, 0) == (1, 1)  # one word for all
    assert access(4, 8) == (2, 1)
    assert access(4, 128) == (32, 1)
    assert access(4, 132) == (1, 1)  # rows of 33 words
    assert access(8, 8) == (2, 2)
    assert access(16, 16) == (4, 4)
    assert access(16, 16, lanes=5) == (1, 1)
    assert access(16, 32) == (8, 4)
