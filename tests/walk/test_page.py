"""A page contains all numbers of the trace and makes no requests."""

import json
import re
from base64 import b64decode
from xml.etree import ElementTree

import numpy as np
import pytest

from minise.walk import trace
from minise.walk.cases import case
from minise.walk.data import data_of
from minise.walk.page import MAX_BYTES, SCRIPTS, asset, page
from minise.walk.pages import GROUPS, write_pages
from minise.walk.steps import BACKWARD
from minise.walk.text import lines
from tests.walk.pages import PAGES, walk_of
from tests.walk.students import edited


@pytest.fixture(scope="module", params=[page.file for page in PAGES])
def walked(request):
    return walk_of(request.param)


@pytest.fixture(scope="module")
def html(walked):
    return page(walked)


def embedded(html):
    """Return the data embedded in a page."""
    return json.loads(re.search(r'<script type="application/json".*?>(.*?)</script>', html)[1])


def test_every_number_is_the_traces(walked, html):
    """Equal, not close: JSON has the digits of repr."""
    data = embedded(html)
    arrays = data["arrays"]
    for name, value in walked.inputs.items():
        (shown,) = [array for array in arrays if array["name"] == name and "step" not in array]
        assert shown["values"] == value.ravel().tolist()
    for step, shown in zip(walked.steps, data["steps"], strict=True):
        assert arrays[shown["array"]]["values"] == step.value.ravel().tolist()
        assert arrays[shown["array"]]["shape"] == list(step.value.shape)
        assert [arrays[read["array"]]["values"] for read in shown["reads"]] == [
            read.value.ravel().tolist() for read in step.reads
        ]
        if step.check:
            assert shown["check"]["difference"] == step.check.difference.ravel().tolist()
            assert shown["check"]["complex"] == step.check.complex_step.ravel().tolist()
        assert shown["terms"] == list(step.terms)


def test_sparse_derivatives_equal_the_dense_ones(walked, html):
    for step, shown in zip(walked.steps, embedded(html)["steps"], strict=True):
        for read, entry in zip(step.reads, shown["reads"], strict=True):
            if read.derivative is None:
                assert entry["at"] is None
                continue
            dense = np.zeros_like(read.derivative)
            for out, (places, numbers) in enumerate(zip(entry["at"], entry["by"], strict=True)):
                dense[out, places] = [entry["slopes"][k] for k in numbers]
            np.testing.assert_array_equal(dense, read.derivative)


def test_named_factors_are_what_they_say(walked):
    """A derivative that the page shows as w1[0, 1] equals w1[0, 1]."""
    for step, shown in zip(walked.steps, data_of(walked)["steps"], strict=True):
        for read, data in zip(step.reads, shown["reads"], strict=True):
            if "factors" not in data:
                continue
            other = step.reads[data["factorOf"]].value.ravel()
            for out, codes in enumerate(data["factors"]):
                for entry, code in zip(data["at"][out], codes, strict=True):
                    if code >= 0:
                        sign = -1 if code % 2 else 1
                        factor = sign * other[code // 2]
                        assert abs(factor - read.derivative[out, entry]) <= 1e-14 * abs(factor)


def test_squeeze_excite_names_its_weights():
    """The terms of dz[0, 1, 0, 0] are du[0, r] times w1[r, 1]."""
    data = data_of(walk_of("squeeze_excite.html"))
    step = next(s for s in data["steps"] if data["arrays"][s["array"]]["name"] == "dz")
    read = next(read for read in step["reads"] if read["sum"])
    assert read["name"] == "du"
    assert step["reads"][read["factorOf"]]["name"] == "w1"
    assert read["factors"][1] == [2 * 1, 2 * 4]  # w1[0, 1] and w1[1, 1], in rows of three


@pytest.mark.parametrize(
    ("page_of", "name", "axes"),
    [
        ("conv2d", "dout", "nkpq"),
        ("conv2d", "product", "nkpq"),
        ("conv2d", "dweight", "kcab"),
        ("conv2d", "padded", "ncij"),
        ("conv2d", "dpadded", "ncij"),
        ("squeeze_excite", "u", "nrij"),
        ("squeeze_excite", "dw1", "rc"),
        ("squeeze_excite", "dw2", "cr"),
        ("squeeze_excite", "dx_gate", "ncij"),
        ("block", "conv1.weight", "kcab"),
        ("block", "se.fc.0.weight", "rc"),
        ("block", "se.fc.0.bias", "r"),
        ("linear", "product", "no"),
    ],
)
def test_axes_have_the_letters_of_the_formulas(page_of, name, axes):
    data = data_of(walk_of(f"{page_of}.html"))
    letters = {"".join(array["axes"]) for array in data["arrays"] if array["name"] == name}
    assert letters == {axes}


def test_the_letters_of_a_sum_are_those_of_the_tables():
    by_name = {step.name: step.formula.text for step in walk_of("squeeze_excite.html").steps}
    assert by_name["u"] == "u = b_1[r] + ∑[c] w_1[r,c] · z[n,c,i,j]"
    conv = {step.name: step.formula.text for step in walk_of("conv2d.html").steps}
    assert conv["dbias"] == "dbias = ∑[n,p,q] dout"


def test_a_page_is_small_and_asks_for_nothing(html):
    assert len(html.encode()) <= MAX_BYTES
    for address in re.findall(r"https?://[^\s\"'<)]+", html):
        assert address == "http://www.w3.org/2000/svg"  # the name of a language, never fetched
    assert not re.search(r"\bsrc=|@import|url\(|fetch\(|XMLHttpRequest|import\(", html)
    assert "default-src 'none'" in html


def test_formulas_are_well_formed_mathml(walked):
    for step in walked.steps:
        root = ElementTree.fromstring(f"<math>{step.formula.mathml}</math>")
        assert "".join(root.itertext()).strip()


def test_a_changed_line_changes_the_page(tmp_path):
    """Formula, code, numbers and verdict of the page all come from the trace."""
    before = embedded(page(walk_of("squeeze_excite.html")))
    path = tmp_path / "edited.py"
    ops = edited(path, ("dx = dx_scale + dx_gate", "dx = dx_scale + 2 * dx_gate"))
    after = embedded(page(trace("squeeze_excite", case("se").x, ops=ops, file=path)))
    old, new = before["steps"][-1], after["steps"][-1]
    assert (old["formula"], new["formula"]) == (
        "dx = dx_scale + dx_gate",
        "dx = dx_scale + 2 · dx_gate",
    )
    assert "<mn>2</mn>" in new["mathml"]
    assert "<mn>2</mn>" not in old["mathml"]
    assert new["code"][0]["text"] == "dx = dx_scale + 2 * dx_gate"
    numbers = before["arrays"][old["array"]]["values"], after["arrays"][new["array"]]["values"]
    assert numbers[0] != numbers[1]
    assert all(old["check"]["agrees"])
    assert not any(new["check"]["agrees"])
    assert before["steps"][:-1] == [
        {**new_step, "code": old_step["code"]}
        for new_step, old_step in zip(after["steps"][:-1], before["steps"][:-1], strict=True)
    ]


def test_the_scripts_know_no_op():
    """No script contains the name of an intermediate: all names come from the data."""
    steps = [step for page in PAGES for step in walk_of(page.file).steps]
    gradients = {step.name for step in steps if step.direction == BACKWARD}
    code = re.sub(r"//.*|/\*\*.*?\*/", "", "\n".join(map(asset, SCRIPTS)))
    known = set(re.findall(r"\w+", code)) & {name for name in gradients if name.startswith("d")}
    assert known <= {"dv"}  # an example of any gradient


def test_text_has_every_formula_and_line(walked):
    text = "\n".join(line.plain for line in lines(walked))
    for step in walked.steps:
        assert step.formula.text in text
        assert f"{step.code}  {step.file}:{step.line}" in text
    assert "gradient entries agree with numerical derivatives of forward" in text


def test_too_large_a_page_is_refused(monkeypatch):
    monkeypatch.setattr("minise.walk.page.MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="bytes, expected at most 1,000: choose a smaller shape"):
        page(walk_of("relu.html"))


def test_the_folder_has_an_index_of_all_its_pages(tmp_path, monkeypatch):
    few = {
        title: [page for page in pages if page.subject == "relu"] for title, pages in GROUPS.items()
    }
    monkeypatch.setattr("minise.walk.pages.GROUPS", few)
    written = write_pages(tmp_path / "walks")
    assert [path.name for path in written] == ["relu.html"]
    index = (tmp_path / "walks" / "index.html").read_text()
    assert re.findall(r'href="([\w.-]+)"', index) == ["relu.html"]


def test_files_of_pages_are_all_named_differently():
    assert len({page.file for page in PAGES}) == len(PAGES)


def test_a_notebook_shows_the_page_folded_away():
    walked = trace("relu", np.array([-1.0, 2.0]), np.array([3.0, 4.0]))
    html = walked._repr_html_()
    assert html.startswith("<details><summary")
    framed = re.search(r"src='data:text/html;base64,([^']+)'", html)[1]
    assert b64decode(framed).decode() == page(walked)
