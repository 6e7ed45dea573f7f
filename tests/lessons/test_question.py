"""A question shows its prompt, folds its answer, and formulas become MathML outside marimo."""

import re
import sys

import pytest

from minise.lessons import Question, show

pytest.importorskip("marimo", reason="needs marimo: pip install -e '.[tutorials]'")
QUESTION = Question("What is `dx` for $x < 1$?", f"$\\frac{{1}}{{2}}$, which is {1 / 2}.")


def test_a_question_is_printed_with_its_answer():
    text = "Predict: What is `dx` for $x < 1$?\nAnswer: $\\frac{1}{2}$, which is 0.5."
    assert str(QUESTION) == text


def test_the_answer_is_folded():
    before, after = QUESTION._repr_html_().split("<details")
    assert "<code>dx</code>" in before
    assert "0.5" in after
    assert "0.5" not in before


def test_formulas_are_mathml_outside_marimo():
    pytest.importorskip("latex2mathml", reason="needs latex2mathml: pip install -e '.[site]'")
    html = QUESTION._repr_html_()
    assert html.count("<math ") == 2
    assert "<mfrac>" in html
    assert "marimo-tex" not in html
    block = Question("which", "as follows:\n\n$$ x^2 $$\n")._repr_html_()
    assert re.search(r'<math [^>]*display="block"', block)


def test_formulas_stay_latex_without_the_converter(monkeypatch):
    monkeypatch.setitem(sys.modules, "latex2mathml.converter", None)
    assert "\\(\\frac{1}{2}\\)" in QUESTION._repr_html_()


@pytest.mark.parametrize(("texts", "name"), [(("", "a"), "prompt"), (("a", " \n"), "answer")])
def test_an_empty_text_is_refused(texts, name):
    with pytest.raises(ValueError, match=f"Question: {name} is empty, expected a text in Markdown"):
        Question(*texts)


@pytest.mark.parametrize(("mode", "printed"), [("script", "1\n"), ("edit", ""), (None, "")])
def test_a_value_is_printed_in_a_script_only(mode, printed, monkeypatch, capsys):
    monkeypatch.setattr("marimo.app_meta", lambda: type("Meta", (), {"mode": mode}))
    assert show(1) == 1
    assert capsys.readouterr().out == printed
