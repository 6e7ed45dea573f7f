"""The article: its placeholders, its case by hand in fractions, its claims and its code."""

import math
import re
from fractions import Fraction as F
from pathlib import Path

import numpy as np
import pytest

from minise.analysis.intervals import t_quantile
from minise.ops import reference
from minise.site import article, by_hand, evidence
from minise.site.measurements.record import read_result

TEXT = (Path(__file__).parents[2] / "tutorials" / "article.md").read_text(encoding="utf-8")
PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
NAMES = (  # digits that name something and count nothing
    "ResNet-20",  # nets
    "ResNet-8",
    "CIFAR-10",  # data sets
    "shapes10",
)
CITATIONS = "## Sources"  # years, volumes and arXiv ids stand below


@pytest.fixture(scope="module")
def values():
    return article.values()


def prose(text):
    """Return the article without code, formulas, placeholders, targets of links and citations."""
    text = text.partition(CITATIONS)[0]
    patterns = [r"^```.*?^```", r"`[^`]*`", r"\$\$.*?\$\$", r"\$[^$]*\$", r"\{\{.*?\}\}"]
    for pattern in [*patterns, r"\]\([^)]*\)", r"^\d+\. "]:
        text = re.sub(pattern, " ", text, flags=re.DOTALL | re.MULTILINE)
    for name in NAMES:
        text = text.replace(name, " ")
    return text


def test_every_placeholder_is_filled_and_every_value_is_used(values):
    names = PLACEHOLDER.findall(TEXT)
    assert set(names) == set(values)
    assert all(values.values())
    filled = PLACEHOLDER.sub(lambda match: values[match[1]], TEXT)
    assert "{{" not in filled
    frames = re.findall(r'src="site:walks/by_hand\.html\?embed#step-(\d+)"', filled)
    assert [by_hand.case().steps[int(number) - 1].name for number in frames] == ["z", "dh", "dx"]


def test_no_number_is_typed_in_prose():
    assert re.findall(r".*\d.*", prose(TEXT)) == []
    assert re.findall(r".*\d.*", prose("It gains 2 points.")) == ["It gains 2 points."]


def test_it_takes_about_fifteen_minutes():
    words = len(re.findall(r"\w+", prose(TEXT)))
    assert 2000 < words < 3000  # at 180 words a minute, with formulas and figures beside


def test_the_code_shown_computes_the_op():
    arrays = [np.asarray(array, float) for array in by_hand.ARRAYS]
    out, cache = reference.squeeze_excite_forward(*arrays)
    dout = np.random.default_rng(0).standard_normal(out.shape)
    names = dict(zip(("x", "w1", "b1", "w2", "b2"), arrays, strict=True))
    scope = {"np": np, "dout": dout, "H": out.shape[2], "W": out.shape[3], **names}
    forward, backward, wrong = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    exec(forward + backward, scope)
    np.testing.assert_allclose(scope["out"], out, rtol=1e-14)
    for name, gradient in zip(names, reference.squeeze_excite_backward(dout, cache), strict=True):
        np.testing.assert_allclose(scope[f"d{name}"], gradient, rtol=1e-12, err_msg=name)
    exec(wrong, scope)
    np.testing.assert_array_equal(scope["dx"], scope["dx_scale"])


def test_the_case_by_hand_in_fractions(values):
    x = [[1, 3, 5, 3], [2, 0, 1, 1]]
    z = [F(sum(channel), 4) for channel in x]
    u = 1 * z[0] - 1 * z[1]
    s = [F(3, 4), F(1, 2)]  # sigmoid(2 u + ln 3 - 4) and sigmoid(-u + 2)
    assert (z, u, s) == ([3, 1], 2, [1 - 1 / (1 + F(3)), F(1, 2)])
    dout = [[1, 0, 2, -1], [-2, 1, 0, 0]]
    ds = [
        sum(d * pixel for d, pixel in zip(*pair, strict=True)) for pair in zip(dout, x, strict=True)
    ]
    dv = [d * gate * (1 - gate) for d, gate in zip(ds, s, strict=True)]
    du = 2 * dv[0] - 1 * dv[1]
    dz = [1 * du, -1 * du]
    dx = [[d * s[c] + dz[c] / 4 for d in dout[c]] for c in range(2)]

    _, cache = reference.squeeze_excite_forward(*by_hand.ARRAYS)
    gradients = reference.squeeze_excite_backward(by_hand.DOUT, cache)
    expected = dx, [[du * z[0], du * z[1]]], [du], [[2 * dv[0]], [2 * dv[1]]], dv
    for gradient, exact in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient.ravel(), np.array(exact, float).ravel(), atol=1e-14)
    assert values["hand_ds"] == "(8, -4)" == f"({ds[0]}, {ds[1]})"
    assert values["hand_dx_1"] == by_hand.matrix(np.array(dx[0], float).reshape(2, 2))
    assert r"\frac{7}{4}" in values["hand_dx_1"]


def test_a_number_that_is_no_simple_fraction_is_refused():
    with pytest.raises(ValueError, match=r"0\.3333 is a number of the case by hand, expected"):
        by_hand.fraction(0.3333)
    with pytest.raises(ValueError, match="dy is no step of the walk, expected z, u, h"):
        by_hand.step_number("dy")


def test_the_walk_is_that_of_the_case():
    page = article.walks()[article.WALK]
    assert '"name":"dx_scale"' in page
    assert "[1.0,3.0,5.0,3.0,2.0,0.0,1.0,1.0]" in page.replace(" ", "")


def changed(monkeypatch, name, change):
    """Read a committed result with a change."""

    def read(other):
        result = read_result(other)
        if other == name:
            change(result)
        return result

    monkeypatch.setattr(evidence, "read_result", read)


@pytest.mark.parametrize(
    ("name", "change", "statement"),
    [
        ("pairs", lambda r: r["runs"][3].update(test_accuracy=0.70), "SE wins on average"),
        (
            "bug_that_trains",
            lambda r: [run.update(wrong=run["right"]) for run in r["runs"]],
            "the net with the mistake is behind",
        ),
    ],
)
def test_an_article_that_the_results_contradict_is_refused(monkeypatch, name, change, statement):
    changed(monkeypatch, name, change)
    with pytest.raises(ValueError, match=f"the text says that {statement}"):
        evidence.check_claims()


def test_the_interval_of_the_pairs_is_plain_arithmetic(values):
    runs = {
        (run["kind"], run["seed"]): run["test_accuracy"] for run in read_result("pairs")["runs"]
    }
    a, b, c = (100 * (runs["se", seed] - runs["plain", seed]) for seed in range(3))
    mean = (a + b + c) / 3
    deviation = math.sqrt(((a - mean) ** 2 + (b - mean) ** 2 + (c - mean) ** 2) / 2)
    half = 0.95 / math.sqrt(2 * 0.975 * 0.025) * deviation / math.sqrt(3)  # t for 2 degrees
    low, high = values["pairs_interval"].replace("\N{MINUS SIGN}", "-").split(" to ")
    assert (float(low), float(high)) == (round(mean - half, 2), round(mean + half, 2))
    assert values["pairs_half_2"] == f"{t_quantile(9) * deviation / math.sqrt(10):.2f}"


def test_every_result_says_where_it_comes_from():
    for path in sorted((Path(article.__file__).parent / "results").glob("*.json")):
        result = read_result(path.stem)
        assert {"date", "command", "machine", "versions", "settings"} <= set(result), path
        assert result["command"][2] == f"minise.site.measurements.{path.stem}"
        assert "/" not in "".join(result["command"]), "a path of one machine"
