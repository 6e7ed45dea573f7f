"""First results: what they are known by, and which differences end a comparison."""

import numpy as np
import pytest

from minise.bench.agree import Disagreement, First, check_firsts, first_of

WHAT = "training step"


def test_a_loss_is_known_by_itself():
    assert first_of(np.float32(2.5)) == first_of(2.5) == (2.5, 2.5)
    assert first_of(-2.0) == (-2.0, 2.0)


def test_one_number_that_differs_shows():
    """Its error, as large as a number of the array, moves the figure by 1 / root of their count."""
    array = np.random.default_rng(1).standard_normal((4, 8, 16, 16))
    other = array.copy()
    other[3, 2, 1, 0] += 1
    assert abs(first_of(other).figure - first_of(array).figure) == pytest.approx(1 / 8192**0.5)


def test_the_layout_in_memory_makes_no_difference():
    array = np.random.default_rng(1).standard_normal((2, 3, 4, 5)).astype(np.float32)
    turned = np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert first_of(turned).figure == pytest.approx(first_of(array).figure, rel=1e-12)


def test_rounding_is_borne_and_a_difference_is_not():
    check_firsts(
        WHAT, {"minise": First(2.3, 2.3), "torch": First(2.3001, 2.3)}, "minise", "float32"
    )
    message = "training step: the first result of torch is 2.31"
    for dtype, figure in (("float32", 2.31), ("float64", 2.3100001)):
        firsts = {"minise": First(2.3, 2.3), "torch": First(figure, 2.3)}
        with pytest.raises(Disagreement, match=message):
            check_firsts(WHAT, firsts, "minise", dtype)


@pytest.mark.parametrize("wrong", ["minise", "torch"])
def test_nan_agrees_with_nothing(wrong):
    firsts = {"minise": First(2.3, 2.3), "torch": First(2.3, 2.3)}
    firsts[wrong] = First(float("nan"), float("nan"))
    with pytest.raises(Disagreement, match="nan"):
        check_firsts(WHAT, firsts, "minise", "float64")
