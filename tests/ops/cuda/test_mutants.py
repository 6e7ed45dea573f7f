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
from minise.ops.cuda import arrays
from minise.ops.reference import arrays as reference_arrays
from tests.ops.cuda.accuracy import (
    REL_TOL_FLOAT32,
    REL_TOL_MOMENTS,
    SHAPES,
    backend,
    losses,
    max_relative_error,
    relative_error,
    relative_error_of_moments,
    simple_backend,
    windows,
)
from tests.ops.cuda.device import device
from tests.ops.cuda.emulator import Emulator, EmulatorError

FOLDER = Path(__file__).parents[3] / "minise" / "ops" / "cuda"
COMMON, SIMPLE, TILE = "common.cuh", "squeeze_excite.cu", "squeeze_excite_tile.cu"
TAIL, WINDOWS, LOSS, SGD = "block_tail.cu", "windows.cu", "cross_entropy.cu", "sgd.cu"


class Bug(NamedTuple):
    file: str
    line: str  # occurs once in the file
    replacement: str


def without_barrier(file, comment, before=""):
    """Return the bug that leaves out the barrier with a comment, after other text."""
    return Bug(file, f"{before}__syncthreads();  // {comment}", before)


LEAVES = "  if (row >= rows) return;\n"
START = "  const size_t start = (size_t)row * hw;\n  with_split(group, hw, [&](auto split) {\n"
SCALE = START + "    affine_rows(split, x + start"
TILE_READ = "  copy_to_tile<P>({}, tile, C * hw);\n  "
RACES = {  # an order that a GPU may choose gives wrong results or a deadlock
    "gates begin before h is complete": without_barrier(COMMON, "h is complete"),
    "pixels are scaled before s is complete": without_barrier(COMMON, "s is complete"),
    "dz begins before du is complete": without_barrier(COMMON, "du is complete"),
    "pixels are moved before dz is complete": without_barrier(COMMON, "dz is complete"),
    "warps' sums over rows are read too early": without_barrier(
        COMMON, "the sums of all warps are complete"
    ),
    "layer 1 begins before z is complete": without_barrier(SIMPLE, "z is complete"),
    "layer 2's gradient begins before dv is complete": without_barrier(SIMPLE, "dv is complete"),
    "two barriers where one is meant": Bug(
        SIMPLE,
        "__syncthreads();  // dv is complete",
        "if (threadIdx.x < 128)\n__syncthreads();\nelse\n__syncthreads();\n",
    ),
    "warps' partial sums are read before they are written": without_barrier(
        SIMPLE, "all partial sums are complete"
    ),
    "half a warp shuffles": Bug(
        SIMPLE,
        "  return sum_of_rows(sums);\n",
        "  return own_lane() < 16 ? sum_of_rows(sums) : real(0);\n",
    ),
    "lanes without pixels leave early": Bug(
        SIMPLE, "if (row >= rows) return;  //", "if (row >= rows || own_lane() >= hw) return;  //"
    ),
    "sums begin before the tile is complete": without_barrier(
        TILE, "the tile is complete", TILE_READ.format("x")
    ),
    "sums of dout begin before the tile is complete": without_barrier(
        TILE, "the tile is complete", TILE_READ.format("dout")
    ),
    "sums are divided before all are complete": without_barrier(TILE, "all sums are complete"),
    "layer 1 begins before the tile's z is complete": without_barrier(TILE, "z is complete"),
    "ds is read before all are complete": without_barrier(TILE, "every ds is complete"),
    "layer 2's gradient begins before the tile's dv is complete": without_barrier(
        TILE, "dv is complete"
    ),
    "groups without a row skip the shuffle": Bug(
        TILE, "first < C; first +=", "first + rows.group < C; first +="
    ),
    "groups of a layer without a row skip the shuffle": Bug(
        COMMON, "first < J; first +=", "first + rows.group < J; first +="
    ),
    "partial sums overwrite dv": Bug(TILE, "*partial = dus + net.R", "*partial = dvs"),
    "du overwrites dz": Bug(TILE, "*dus = dzs + C", "*dus = dzs"),
    "only lanes with pixels take part in the centre": Bug(
        TAIL,
        "centre : __shfl_sync(ALL_LANES, centre",
        "centre : own >= hw * ROWS ? 0 : __shfl_sync(ALL_LANES, centre",
    ),
    "the mean is read before all sums are complete": without_barrier(
        LOSS, "the sums of all warps are complete"
    ),
    "lanes without classes skip the maximum": Bug(
        LOSS,
        "  largest = max_of_lanes(largest);",
        "  if (lane < K) largest = max_of_lanes(largest);",
    ),
}
FAULTS = {
    "a sum of lanes forgets neighbours": Bug(COMMON, "away > 0; away", "away > 1; away"),
    "w2 read as if transposed": Bug(COMMON, "w[(size_t)j * K + k];", "w[(size_t)k * J + j];"),
    "inactive units pass a gradient": Bug(COMMON, "h[r] <= 0 ? real(0) : dh", "dh"),
    "a bias is left out": Bug(COMMON, "net.b2 ? net.b2[c] : real(0)", "0"),
    "a layer's groups add up a whole warp": Bug(
        COMMON, "sum_of_lanes(sums[m], rows.lanes)", "sum_of_lanes(sums[m])"
    ),
    "a warp's groups of lanes are not added": Bug(
        COMMON, "int away = rows.lanes; away < WARP", "int away = rows.lanes; away < WARP / 2"
    ),
    "an image that does not exist": Bug(
        COMMON, "j < J && m < images; m +=", "j < J && m < IMAGES; m +="
    ),
    "a number of one row counts in the next": Bug(
        COMMON, "q == first + (k >= rest)", "q == first + (k >= rest - 1)"
    ),
    "rows' sums are exchanged": Bug(COMMON, "(upper ? high : low) +", "(upper ? low : high) +"),
    "a chunk has the map of its first row": Bug(
        COMMON, "last = map_of(row_at<ROWS>(i + P - 1, hw));", "last = first;"
    ),
    "groups of rows are read as one row": Bug(
        COMMON,
        "if (group > 1) body(Split<PACK, PACK>());",
        "if (group > 1) body(Split<PACK, 1>());",
    ),
    "no bound on rows": Bug(SIMPLE, LEAVES + SCALE, SCALE),
    "16 bytes at a misaligned address": Bug(
        COMMON, "else if (hw % PACK == 0) body", "else if (hw > PACK) body"
    ),
    "a shared array is too short": Bug(
        SIMPLE, "partial[WARPS][ROWS][WARP]", "partial[WARPS - 1][ROWS][WARP]"
    ),
    "partial sums for fewer images": Bug(
        SIMPLE, "SUMS = WARPS * IMAGES * WARP", "SUMS = WARPS * (IMAGES - 1) * WARP"
    ),
    "one warp's partial sum is left out": Bug(SIMPLE, "for (int w = 0;", "for (int w = 1;"),
    "dz is not shared among pixels": Bug(SIMPLE, "dz[row + q] / hw", "dz[row + q]"),
    "every image has the first one's z": Bug(SIMPLE, "= z[n * C + c]", "= z[c]"),
    "a large layer without its bias": Bug(SIMPLE, "sum + (b ? b[j] : real(0))", "sum"),
    "a large layer's mask is that of the first images": Bug(
        SIMPLE, "h && h[i] <= 0", "h && h[m * K + k] <= 0"
    ),
    "blocks of one weight compute the other": Bug(
        SIMPLE, "blockIdx.x >= blocks;", "blockIdx.x > blocks;"
    ),
    "z is read before all sums are divided": Bug(TILE, "zs[c] = zs[c] / hw", "zs[c] / hw"),
    "groups add up a whole warp": Bug(TILE, "sum_of_lanes(sum, rows.lanes)", "sum_of_lanes(sum)"),
    "the last chunk is not copied": Bug(TILE, "* P; i < count;", "* P; i + P < count;"),
    "pieces are merged as if of equal mean": Bug(
        TAIL, "piece + apart * apart * (seen * count / (seen + count))", "piece"
    ),
    "rows are merged as if of equal mean": Bug(TAIL, " + hw * apart * apart", ""),
    "the mean is not corrected for rounding": Bug(TAIL, " - rest * rest / count", ""),
    "rows have the first one's centre": Bug(TAIL, "centre, q * LANES)", "centre, 0)"),
    "zhat and z are exchanged": Bug(TAIL, "(real)(gamma[c] * normal + beta[c])", "(real)normal"),
    "evaluation takes the batch's moments": Bug(TAIL, "  if (training) {", "  if (row_m2) {"),
    "every row of a group has the first channel's map": Bug(
        TAIL,
        "c = row % C + q;\n      const real gate",
        "c = row % C;\n      const real gate",
    ),
    "a group writes its first row only": Bug(
        TAIL, "const int own = row + own_lane() / lanes, c", "const int own = row, c"
    ),
    "the ReLU does not mask the gradient": Bug(
        TAIL, "if (out && seen.at[k] <= 0) g.at[k] = 0;", ""
    ),
    "dbeta lacks the gates' part": Bug(TAIL, "gate * sum_g[row] + through", "gate * sum_g[row]"),
    "evaluation differentiates the mean": Bug(TAIL, "training ? dbeta[c] / M : 0", "dbeta[c] / M"),
    "one channel for another": Bug(TAIL, "sums.g), s[own], gate)", "sums.g), s[c], gate)"),
    "a column of windows for another": Bug(WINDOWS, "column += windows;", "column += N * OH;"),
    "windows between strides count": Bug(WINDOWS, "start % stride == 0 && ", ""),
    "a column beyond the image": Bug(
        WINDOWS, "in_rows && at >= 0 && at < W ?", "in_rows && at >= 0 && at <= W ?"
    ),
    "no maximum below 0": Bug(WINDOWS, "winner < 0 || v > best", "v > best"),
    "padding counts where it should not": Bug(WINDOWS, "pad ? padding : 0", "padding"),
    "a window outside the output": Bug(
        WINDOWS, "min((i + padding) / stride, count - 1)", "(i + padding) / stride"
    ),
    "a gradient is added to old memory": Bug(
        WINDOWS, "if (q >= 0) sum += columns", "if (q >= 0) sum = dx[pixel] += columns"
    ),
    "a maximum passes its gradient to every pixel": Bug(
        WINDOWS, "if (argmax[window] == (long long)row * W + column) sum +=", "sum +="
    ),
    "the maximum is not subtracted twice": Bug(
        LOSS, "row[k] - largest - log_sum", "row[k] - log_sum"
    ),
    "the smoothing is forgotten": Bug(LOSS, "smoothing ? smoothing * mean : 0", "0"),
    "a sum instead of a mean": Bug(LOSS, "(real)(total / N)", "(real)total"),
    "the label is not subtracted": Bug(LOSS, "k == label ? at_label : elsewhere", "elsewhere"),
    "a class after the last": Bug(
        LOSS, "int k = own_lane(); k < K;", "int k = own_lane(); k <= K;"
    ),
    "no bound on numbers": Bug(SGD, "min(size - start, NUMBERS)", "NUMBERS"),
    "the velocity is not damped": Bug(SGD, "step.momentum * velocities.at[k]", "velocities.at[k]"),
    "a block takes the parameter before its own": Bug(COMMON, "<= blockIdx.x", "< blockIdx.x"),
    "the search misses parameters": Bug(COMMON, "int step = 64;", "int step = 2;"),
    "every parameter has the first one's decay": Bug(
        SGD, "weight_decays.at[k]", "weight_decays.at[0]"
    ),
}
BUGS = RACES | FAULTS


def errors(file, **emulation):
    """Run all kernels of a file, and yield the relative error of each, as of float32 results."""
    if file == SGD:
        yield update_error(Emulator(device, **emulation))
        return
    if file in (WINDOWS, LOSS):
        for case in windows() if file == WINDOWS else losses():
            yield max_relative_error(backend(**emulation), case)
        return
    if file == TAIL:
        moments = relative_error_of_moments(backend(**emulation))
        yield moments * REL_TOL_FLOAT32 / REL_TOL_MOMENTS
    for k, sizes in enumerate(SHAPES.values()):
        if file == TAIL:
            case = Case("se_block_tail", sizes, dict(training=k % 3 != 2))
            yield max_relative_error(backend(**emulation), case)
        if file in (COMMON, SIMPLE):
            yield max_relative_error(simple_backend(**emulation), Case("squeeze_excite", sizes))
        if file in (COMMON, TILE):
            yield max_relative_error(backend(**emulation), Case("squeeze_excite", sizes))
    if file == COMMON:
        yield update_error(Emulator(device, **emulation))


def update_error(launcher):
    """Return the largest error of five parameters, some of several blocks or partial chunks."""
    rng, sizes = np.random.default_rng(0), [4, 5, 2049, 4096, 12]
    rows = [[rng.standard_normal(size) for size in sizes] for _ in range(3)]
    settings, weight_decays = dict(rate=0.1, momentum=0.5, nesterov=True), [0.0, 0.1, 0.2, 0.3, 0.4]
    results = [[device.asarray(array, np.float32) for array in row] for row in rows]
    arrays.sgd_updates(launcher, *results, weight_decays=weight_decays, **settings)
    for *param, weight_decay in zip(*rows, weight_decays, strict=True):
        reference_arrays.sgd_update(*param, weight_decay=weight_decay, **settings)
    pairs = zip(results[0] + results[2], rows[0] + rows[2], strict=True)
    return max(relative_error(result.get(), expected) for result, expected in pairs)


def caught(bug):
    """Return True if a bug causes an error or a wrong result in any of four thread orders."""
    text = (FOLDER / bug.file).read_text(encoding="utf-8")
    assert text.count(bug.line) == 1, f"{bug.line!r} must occur once in {bug.file}"

    def edit(source):
        return source.replace(bug.line, bug.replacement)

    for seed in range(4):
        try:
            for error in errors(bug.file, seed=seed, resident=1 + seed, edit=edit):
                if error > REL_TOL_FLOAT32:
                    return True
        except EmulatorError:
            return True
    return False


# g++ needs a second or more for each. Quick runs plant the first bug of each file, the slow tests
# some of the races, and the long tests the rest.
FIRST = {bug.file: name for name, bug in reversed(BUGS.items())}.values()
SLOW = list(RACES)[::4]


def planted(name):
    marks = () if name in FIRST else pytest.mark.slow if name in SLOW else pytest.mark.long
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [planted(name) for name in BUGS])
def test_a_planted_bug_is_caught(name):
    assert caught(BUGS[name])


@pytest.mark.slow
@pytest.mark.parametrize("file", [SIMPLE, TILE, TAIL, WINDOWS, LOSS, SGD])
def test_a_correct_kernel_is_not_caught(file):
    """The cases of common.cuh are those of SIMPLE, TILE and SGD."""
    assert not caught(Bug(file, "// Idea.", "// The same."))
