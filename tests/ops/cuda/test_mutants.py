"""Bugs planted in the kernels, one at a time: each has to be caught.

Of what the emulator cannot see (emulator.h) nothing is here: fences, races that no tried order
shows, speed. The kernels contain no fence and wait for no other block, so that order between
blocks is nothing that they could get wrong.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from minise.contract.case import Case
from tests.ops.cuda.agree import (
    PROMISED,
    PROMISED_MOMENTS,
    SHAPES,
    apart,
    backend,
    distance,
    distance_of_moments,
    simple_backend,
    windows,
)
from tests.ops.cuda.emulator import EmulatorError

FOLDER = Path(__file__).parents[3] / "minise" / "ops" / "cuda"
COMMON, SIMPLE, TILE = "common.cuh", "squeeze_excite.cu", "squeeze_excite_tile.cu"
TAIL, WINDOWS, SGD = "block_tail.cu", "windows.cu", "sgd.cu"


class Bug(NamedTuple):
    file: str
    line: str  # stands once in the file
    instead: str


LEAVES = "  if (row >= rows) return;\n"
SCALE = "  const size_t start = (size_t)row * hw;\n  if (hw % PACK == 0) affine_row<PACK>(x + start"
BUGS = {
    "a sum of lanes forgets neighbours": Bug(COMMON, "away > 0; away", "away > 1; away"),
    "gates begin before h is complete": Bug(COMMON, "__syncthreads();  // h is complete", ""),
    "dz begins before du is complete": Bug(COMMON, "__syncthreads();  // du is complete", ""),
    "w2 read as if transposed": Bug(
        COMMON, "net.w2[(size_t)c * net.R + r] * h[r]", "net.w2[(size_t)r * net.C + c] * h[r]"
    ),
    "sleeping units pass a gradient": Bug(COMMON, "h[r] <= 0 ? real(0) : dh", "dh"),
    "a bias is left out": Bug(COMMON, "net.b2 ? net.b2[c] : real(0)", "0"),
    "no bound on rows": Bug(SIMPLE, LEAVES + SCALE, SCALE),
    "16 bytes at a crooked address": Bug(
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
    "warps' parts are read before they are written": Bug(
        SIMPLE, "__syncthreads();  // all warps have told what they found", ""
    ),
    "a shared array is too short": Bug(SIMPLE, "found[WARPS][ROWS]", "found[WARPS - 1][ROWS]"),
    "one warp's part is forgotten": Bug(SIMPLE, "for (int w = 0;", "for (int w = 1;"),
    "dz is not shared among pixels": Bug(SIMPLE, "dz[row] / hw", "dz[row]"),
    "every image has the first one's z": Bug(SIMPLE, "= z[n * C + c]", "= z[c]"),
    "sums begin before the tile is complete": Bug(
        TILE,
        "  __syncthreads();  // the tile is complete\n  sums_of_rows<P>(tile, nullptr",
        "  sums_of_rows<P>(tile, nullptr",
    ),
    "z is taken before all sums are there": Bug(
        TILE, "__syncthreads();  // all sums are there", ""
    ),
    "groups add up a whole warp": Bug(TILE, "sum_of_lanes(sum, rows.lanes)", "sum_of_lanes(sum)"),
    "groups without a row take no turn": Bug(
        TILE, "first < C; first +=", "first + rows.group < C; first +="
    ),
    "du overwrites dz": Bug(TILE, "*dus = dzs + C", "*dus = dzs"),
    "the last chunk is not copied": Bug(TILE, "* P; i < count;", "* P; i + P < count;"),
    "pieces join as if of one mean": Bug(
        TAIL, "piece + apart * apart * (seen * count / (seen + count))", "piece"
    ),
    "rows join as if of one mean": Bug(TAIL, " + hw * apart * apart", ""),
    "the mean stays as it was rounded": Bug(TAIL, " - rest * rest / count", ""),
    "what the ReLU stopped goes back": Bug(TAIL, "if (out && seen.at[k] <= 0) g.at[k] = 0;", ""),
    "dbeta does without the gates' part": Bug(
        TAIL, "gate * sum_g[row] + through", "gate * sum_g[row]"
    ),
    "evaluation goes back through the mean": Bug(
        TAIL, "training ? dbeta[c] / M : 0", "dbeta[c] / M"
    ),
    "one channel for another": Bug(
        TAIL, "gate_backward(ds, s[row], gate)", "gate_backward(ds, s[c], gate)"
    ),
    "windows between strides count": Bug(WINDOWS, "start % stride == 0 && ", ""),
    "a column beyond the image": Bug(
        WINDOWS, "row < H && column >= 0 &&", "row <= H && column >= 0 &&"
    ),
    "no maximum below 0": Bug(WINDOWS, "winner < 0 || v > best", "v > best"),
    "padding counts where it should not": Bug(WINDOWS, "pad ? padding : 0", "padding"),
    "a window that is not there": Bug(
        WINDOWS, "min((i + padding) / stride, count - 1)", "(i + padding) / stride"
    ),
    "a gradient is added to what lay there": Bug(
        WINDOWS, "if (q >= 0) sum += columns", "if (q >= 0) sum = dx[own] += columns"
    ),
    "no bound on numbers": Bug(SGD, "if (i >= total) return;", ""),
    "the velocity keeps all": Bug(SGD, "momentum * velocity[i] + g", "velocity[i] + g"),
}


def largest_distance(file, seed, edit):
    """Run all that a file computes and return the largest distance from the reference."""
    how = dict(seed=seed, resident=1 + seed, edit=edit)
    if file == SGD:
        return update_distance(backend(**how))
    if file == WINDOWS:
        return max(distance(backend(**how), case) for case in windows())
    found = []
    if file == TAIL:
        found.append(distance_of_moments(backend(**how)) * PROMISED / PROMISED_MOMENTS)
    for k, sizes in enumerate(SHAPES.values()):
        if file == TAIL:
            settings = dict(training=k % 3 != 2)
            found.append(distance(backend(**how), Case("se_block_tail", sizes, settings)))
        else:
            ops = backend(**how) if file == TILE else simple_backend(**how)
            found.append(distance(ops, Case("squeeze_excite", sizes)))
    return max(found)


def update_distance(ops):
    rng = np.random.default_rng(0)
    param, grad, velocity = rng.standard_normal((3, 300))
    settings = dict(rate=0.1, momentum=0.5, nesterov=True, weight_decay=0.1)
    moved = (grad + 0.1 * param) + 0.5 * velocity
    expected = param - 0.1 * (grad + 0.1 * param + 0.5 * moved)
    arrays = [a.astype(np.float32) for a in (param, grad, velocity)]
    ops.sgd_update(*arrays, **settings)
    return max(apart(arrays[0], expected), apart(arrays[2], moved))


def caught(bug):
    """Tell whether a bug makes an error, or a number that is off, in any of four orders."""
    text = (FOLDER / bug.file).read_text()
    assert text.count(bug.line) == 1, "the line to change is not there, or more than once"

    def edit(source):
        return source.replace(bug.line, bug.instead)

    for seed in range(4):
        try:
            if largest_distance(bug.file, seed, edit) > PROMISED:
                return True
        except EmulatorError:
            return True
    return False


# each is compiled by g++ for a second; the first of each file shows in every run that checks bite
FIRST = {bug.file: name for name, bug in reversed(BUGS.items())}.values()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FIRST else pytest.mark.slow) for name in BUGS]
)
def test_a_planted_bug_is_caught(name):
    assert caught(BUGS[name])


@pytest.mark.slow
@pytest.mark.parametrize("file", [COMMON, SIMPLE, TILE, TAIL, WINDOWS, SGD])
def test_what_is_right_is_not(file):
    assert not caught(Bug(file, "// Idea." if file != COMMON else "// An image", "// The same."))
