import re
from xml.etree import ElementTree

import numpy as np
import pytest

from minise.bench.ladder_loops import seven_loops
from minise.lessons import Arrays, Plot, cuda_of, python_of, table
from minise.lessons.arrays import MAX_ROWS
from minise.nn import Residual


def test_arrays_print_every_number():
    text = str(Arrays(1, x=np.array([[0.5, -1.0]]), labels=np.array([3, 1])))
    assert text == "x (1, 2)\n  [  0.5  -1.0]\nlabels (2,)\n  [3 1]"


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3, 1, 2)), np.array(1.5), np.array([np.nan, np.inf]), np.array([True])]
)
def test_arrays_make_tables_that_can_be_parsed(array):
    page = ElementTree.fromstring(Arrays(x=array)._repr_html_().replace("&nbsp;", " "))
    assert len(list(page.iter("td"))) == array.size
    assert len(list(page.iter("table"))) == np.prod(array.shape[:-2], dtype=int)


def test_large_arrays_are_cut():
    page = ElementTree.fromstring(Arrays(x=np.zeros((99, 99)))._repr_html_())
    assert len(list(page.iter("td"))) == MAX_ROWS**2


def test_a_plot_is_one_drawing_as_wide_as_the_page():
    pytest.importorskip("matplotlib")
    plot = Plot(2, columns=2)
    plot.axes[0].plot([1, 2, 3], label="a line")
    legend = plot.axes[0].legend()
    html = plot._repr_html_()
    assert not legend.get_frame_on()
    assert html == plot._repr_html_()
    assert ElementTree.fromstring(html)[0].attrib["style"] == "width:100%;height:auto"


def test_a_kernel_is_shown_unchanged():
    text = cuda_of(("squeeze_excite.cu", "template <int P, int ROWS> __device__ real sum_of_pix"))
    assert re.search(r"^```cpp\ntemplate .*return sum_of_rows\(sums\);\n}\n```$", text, re.DOTALL)
    assert text.count("\n}") == 1


@pytest.mark.parametrize(("start", "count"), [("nothing", 0), ("template <int P", 2)])
def test_a_start_that_is_not_unique_is_refused(start, count):
    with pytest.raises(ValueError, match=f"cuda_of: {count} lines of squeeze_excite.cu begin with"):
        cuda_of(("squeeze_excite.cu", start))


def test_a_function_is_shown_without_its_docstring():
    text = python_of(seven_loops, Residual.forward)
    assert text.startswith("```python\ndef seven_loops(")
    assert "\n\ndef forward(self, x" in text
    assert '"""' not in text


def test_a_table_refuses_a_row_of_another_length():
    with pytest.raises(ValueError, match="a row has 1 cells, expected 2 as the head"):
        table(["a", "b"], [["1"]])
