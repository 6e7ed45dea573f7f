"""Bugs planted in the kernels, one at a time: the tests must catch each of them.

The emulator cannot detect missing fences, races that no tested order shows, and low speed
(emulator.h). The kernels contain no fence and wait for no other block, so that the order of blocks
cannot cause an error.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from minise.contract.case import Case
from tests.ops.cuda.accuracy import (
    REL_TOL_FLOAT32,
    REL_TOL_MOMENTS,
    SHAPES,
    backend,
    max_relative_error,
    relative_error,
    relative_error_of_moments,
    simple_backend,
    windows,
)
from tests.ops.cuda.emulator import EmulatorError

FOLDER = Path(__file__).parents[3] / "minise" / "ops" / "cuda"
COMMON, SIMPLE, TILE = "common.cuh", "squeeze_excite.cu", "squeeze_excite_tile.cu"
TAIL, WINDOWS, SGD = "block_tail.cu", "windows.cu", "sgd.cu"


class Bug(NamedTuple):
    file: str
    line: str  # occurs once in the file
    replacement: str


LEAVES = "  if (row >= rows) return;\n"
SCALE = "  const size_t start = (size_t)row * hw;\n  if (hw % PACK == 0) affine_row<PACK>(x + start"
BUGS = {
    "a sum of lanes forgets neighbours": Bug(COMMON, "away > 0; away", "away > 1; away"),
    "gates begin before h is complete": Bug(COMMON, "__syncthreads();  // h is complete", ""),
    "dz begins before du is complete": Bug(COMMON, "__syncthreads();  // du is complete", ""),
    "w2 read as if transposed": Bug(
        COMMON, "net.w2[(size_t)c * net.R + r] * h[r]", "net.w2[(size_t)r * net.C + c] * h[r]"
    ),
    "inactive units pass a gradient": Bug(COMMON, "h[r] <= 0 ? real(0) : dh", "dh"),
    "a bias is left out": Bug(COMMON, "net.b2 ? net.b2[c] : real(0)", "0"),
    "no bound on rows": Bug(SIMPLE, LEAVES + SCALE, SCALE),
    "16 bytes at a misaligned address": Bug(
        SIMPLE, "if (hw % PACK == 0) squeeze_row", "if (hw > PACK) squeeze_row"
    ),
    "layer 1 begins before z is complete": Bug(SIMPLE, "__syncthreads();  // z is complete", ""),
    "half a warp shuffles": Bug(
        SIMPLE, "sum = sum_of_lanes(sum);\n", "if (own_lane() < 16) sum = sum_of_lanes(sum);\n"
    ),
    "lanes without pixels leave early": Bug(
        SIMPLE, "if (row >= rows) return;  //", "if (row >= rows || own_lane() >= hw) return;  //"
    ),
    "two barriers where one is meant": Bug(
        SIMPLE,
        "__syncthreads();  // dv is complete",
        "if (threadIdx.x < 128)\n__syncthreads();\nelse\n__syncthreads();\n",
    ),
    "warps' partial sums are read before they are written": Bug(
        SIMPLE, "__syncthreads();  // all partial sums are complete", ""
    ),
    "a shared array is too short": Bug(SIMPLE, "found[WARPS][ROWS]", "found[WARPS - 1][ROWS]"),
    "one warp's partial sum is left out": Bug(SIMPLE, "for (int w = 0;", "for (int w = 1;"),
    "dz is not shared among pixels": Bug(SIMPLE, "dz[row] / hw", "dz[row]"),
    "every image has the first one's z": Bug(SIMPLE, "= z[n * C + c]", "= z[c]"),
    "sums begin before the tile is complete": Bug(
        TILE,
        "  __syncthreads();  // the tile is complete\n  sums_of_rows<P>(tile, nullptr",
        "  sums_of_rows<P>(tile, nullptr",
    ),
    "z is read before all sums are complete": Bug(
        TILE, "__syncthreads();  // all sums are complete", ""
    ),
    "groups add up a whole warp": Bug(TILE, "sum_of_lanes(sum, rows.lanes)", "sum_of_lanes(sum)"),
    "groups without a row skip the shuffle": Bug(
        TILE, "first < C; first +=", "first + rows.group < C; first +="
    ),
    "du overwrites dz": Bug(TILE, "*dus = dzs + C", "*dus = dzs"),
    "the last chunk is not copied": Bug(TILE, "* P; i < count;", "* P; i + P < count;"),
    "pieces are merged as if of equal mean": Bug(
        TAIL, "piece + apart * apart * (seen * count / (seen + count))", "piece"
    ),
    "rows are merged as if of equal mean": Bug(TAIL, " + hw * apart * apart", ""),
    "the mean is not corrected for rounding": Bug(TAIL, " - rest * rest / count", ""),
    "the ReLU does not mask the gradient": Bug(
        TAIL, "if (out && seen.at[k] <= 0) g.at[k] = 0;", ""
    ),
    "dbeta lacks the gates' part": Bug(TAIL, "gate * sum_g[row] + through", "gate * sum_g[row]"),
    "evaluation differentiates the mean": Bug(TAIL, "training ? dbeta[c] / M : 0", "dbeta[c] / M"),
    "one channel for another": Bug(
        TAIL, "gate_backward(ds, s[row], gate)", "gate_backward(ds, s[c], gate)"
    ),
    "windows between strides count": Bug(WINDOWS, "start % stride == 0 && ", ""),
    "a column beyond the image": Bug(
        WINDOWS, "row < H && column >= 0 &&", "row <= H && column >= 0 &&"
    ),
    "no maximum below 0": Bug(WINDOWS, "winner < 0 || v > best", "v > best"),
    "padding counts where it should not": Bug(WINDOWS, "pad ? padding : 0", "padding"),
    "a window outside the output": Bug(
        WINDOWS, "min((i + padding) / stride, count - 1)", "(i + padding) / stride"
    ),
    "a gradient is added to old memory": Bug(
        WINDOWS, "if (q >= 0) sum += columns", "if (q >= 0) sum = dx[own] += columns"
    ),
    "no bound on numbers": Bug(SGD, "if (i >= total) return;", ""),
    "the velocity is not damped": Bug(SGD, "momentum * velocity[i] + g", "velocity[i] + g"),
}


def largest_error(file, seed, edit):
    """Run all kernels of a file and return the largest relative error, as of float32 results."""
    emulation = dict(seed=seed, resident=1 + seed, edit=edit)
    if file == SGD:
        return update_error(backend(**emulation))
    if file == WINDOWS:
        return max(max_relative_error(backend(**emulation), case) for case in windows())
    errors = []
    if file == TAIL:
        errors.append(
            relative_error_of_moments(backend(**emulation)) * REL_TOL_FLOAT32 / REL_TOL_MOMENTS
        )
    for k, sizes in enumerate(SHAPES.values()):
        if file == TAIL:
            settings = dict(training=k % 3 != 2)
            errors.append(
                max_relative_error(backend(**emulation), Case("se_block_tail", sizes, settings))
            )
        else:
            ops = backend(**emulation) if file == TILE else simple_backend(**emulation)
            errors.append(max_relative_error(ops, Case("squeeze_excite", sizes)))
    return max(errors)


def update_error(ops):
    rng = np.random.default_rng(0)
    param, grad, velocity = rng.standard_normal((3, 300))
    settings = dict(rate=0.1, momentum=0.5, nesterov=True, weight_decay=0.1)
    new_velocity = (grad + 0.1 * param) + 0.5 * velocity
    expected = param - 0.1 * (grad + 0.1 * param + 0.5 * new_velocity)
    arrays = [a.astype(np.float32) for a in (param, grad, velocity)]
    ops.sgd_update(*arrays, **settings)
    return max(relative_error(arrays[0], expected), relative_error(arrays[2], new_velocity))


def caught(bug):
    """Return True if a bug causes an error or a wrong result in any of four thread orders."""
    text = (FOLDER / bug.file).read_text()
    assert text.count(bug.line) == 1, f"{bug.line!r} must occur once in {bug.file}"

    def edit(source):
        return source.replace(bug.line, bug.replacement)

    for seed in range(4):
        try:
            if largest_error(bug.file, seed, edit) > REL_TOL_FLOAT32:
                return True
        except EmulatorError:
            return True
    return False


# g++ compiles each for a second: quick runs test only the first bug of each file
FIRST = {bug.file: name for name, bug in reversed(BUGS.items())}.values()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FIRST else pytest.mark.slow) for name in BUGS]
)
def test_a_planted_bug_is_caught(name):
    assert caught(BUGS[name])


@pytest.mark.slow
@pytest.mark.parametrize("file", [COMMON, SIMPLE, TILE, TAIL, WINDOWS, SGD])
def test_a_correct_kernel_is_not_caught(file):
    assert not caught(Bug(file, "// Idea." if file != COMMON else "// An array", "// The same."))
