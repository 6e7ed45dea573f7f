"""Every rung of the ladder is the same convolution."""

import json
import sys

import numpy as np
import pytest

from minise.bench import ladder
from minise.bench.settings import LadderSettings, default_threads
from minise.ops import reference

pytestmark = pytest.mark.slow

pytest.importorskip("numba", reason="the rungs are compiled by Numba")


def integers(rng, *shape):
    return rng.integers(-3, 4, shape)


@pytest.mark.parametrize("rung", ladder.RUNGS, ids=lambda rung: rung.name)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("sizes", "kernel", "stride", "padding"),
    [
        ((2, 3, 6, 5), (3, 3), (1, 1), (1, 1)),
        ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0)),
        ((3, 2, 7, 8), (3, 2), (2, 2), (1, 0)),
        ((1, 4, 5, 9), (2, 3), (1, 3), (0, 2)),
        ((2, 3, 4, 6), (1, 1), (2, 2), (0, 0)),
    ],
)
def test_rungs_are_the_reference(rung, dtype, sizes, kernel, stride, padding):
    """Sums of small integers are exact in any order."""
    rng = np.random.default_rng(0)
    x, weight = integers(rng, *sizes).astype(dtype), integers(rng, 5, sizes[1], *kernel)
    settings = dict(stride=stride, padding=padding)
    expected, _ = reference.conv2d_forward(x, weight.astype(dtype), **settings)
    for layout in (x, np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)):
        out = rung.forward(layout, weight.astype(dtype), threads=default_threads(), **settings)
        assert out.dtype == dtype
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    "stage",
    [pytest.param(stage, marks=[pytest.mark.long] if stage < 3 else []) for stage in ladder.STAGES],
)
def test_the_rounding_of_winograd_is_bounded(stage):
    """On the timed shapes; the result differs from register_tiles, so Winograd is in use."""
    from minise.ops.jit.convolution.rounding import rounding

    channels, size = ladder.STAGES[stage]
    x, weight = ladder.inputs_of((2, channels, size), channels_last=True)
    settings = dict(stride=(1, 1), padding=(1, 1))
    out = ladder.winograd(x, weight, threads=1, **settings)
    exact, cache = reference.conv2d_forward(x.astype(float), weight.astype(float), **settings)
    bound, *_ = rounding(out, cache._replace(x=x, weight=weight))
    assert (abs(out - exact) <= bound).all()
    assert not np.array_equal(out, ladder.register_tiles(x, weight, threads=1, **settings))


def test_more_threads_than_images():
    x, weight = np.ones((1, 2, 4, 4)), np.ones((3, 2, 1, 1))
    settings = dict(stride=(1, 1), padding=(0, 0))
    np.testing.assert_array_equal(
        ladder.threads(x, weight, threads=3, **settings), np.full((1, 3, 4, 4), 2.0)
    )


def test_every_rung_is_documented():
    """The module lists the rungs in order; each function has a docstring with details."""
    positions = [ladder.__doc__.index(f"    {rung.name} ") for rung in ladder.RUNGS]
    assert positions == sorted(positions)
    assert all(len(rung.forward.__doc__.splitlines()) > 3 for rung in ladder.RUNGS)


def test_extrapolation_by_hand():
    """Pure Python is timed on a small image: 1 * 4 * 4 * 8 * 8 * 9 products."""
    assert ladder.macs_of(ladder.PURE_PYTHON_SHAPE) == 9216
    rung = ladder.RUNGS[0]
    timed = ladder.time_rung(rung, (2, 16, 32), threads=1)
    assert timed.scaled
    macs = 2 * 16 * 16 * 32 * 32 * 9
    assert timed.seconds == pytest.approx(2 * macs / timed.flops)


def test_the_result_has_a_row_for_each_rung(monkeypatch):
    monkeypatch.setattr(ladder, "RUN_SECONDS", 0.0)
    messages = []
    result = ladder.measure(LadderSettings(stage=3, batch=1, threads=1), messages.append)
    names = [rung.name for rung in ladder.RUNGS]
    assert messages == [row["rung"] for row in result.rows] == names
    (table,) = result.tables
    assert [row[0] for row in table.rows] == names
    assert table.rows[0][3] == "1.00"
    assert [row["scaled"] for row in json.loads(json.dumps(result.as_json()))["rows"]] == [
        True,
        *[False] * 9,
    ]


def test_without_numba_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    ladder.compiled.cache_clear()
    with pytest.raises(ImportError, match="pip install 'numba"):
        ladder.RUNGS[1].forward(
            np.ones((1, 1, 1, 1)), np.ones((1, 1, 1, 1)), stride=(1, 1), padding=(0, 0), threads=1
        )
    ladder.compiled.cache_clear()
