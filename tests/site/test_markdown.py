"""Markdown and marimo's HTML become static HTML."""

import pytest

from minise.lessons.mathml import mathml
from minise.site.checkout import BrokenSite
from minise.site.markdown import html_of, slug, static, text_of

mo = pytest.importorskip("marimo", reason="needs marimo: pip install -e '.[site]'")
pytest.importorskip("latex2mathml", reason="needs latex2mathml: pip install -e '.[site]'")


def test_formulas_are_mathml_in_a_line_and_in_a_paragraph_of_their_own():
    html = html_of("For $x < 1$:\n\n$$\n\\begin{aligned}a &= b\\\\ c &= d\\end{aligned}\n$$")
    assert '<p>For <math xmlns="http://www.w3.org/1998/Math/MathML" display="inline">' in html
    assert html.count("<div class='formula'><math ") == 1
    assert html.count("<mtr>") == 2
    assert "marimo" not in html


def test_a_command_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match=r"\\qwerty in '\\\\qwerty x' is not known"):
        mathml(r"\qwerty x")
    with pytest.raises(ValueError, match="& in 'a & b' is not known"):
        mathml("a & b")
    with pytest.raises(ValueError, match="'x_1_2' is not LaTeX .*: correct the formula"):
        mathml("x_1_2")


def test_code_is_highlighted_and_a_table_scrolls_in_its_box():
    html = html_of("```python\nx = 1  # one\n```\n\n| a | b |\n|:--|--:|\n| 1 | 2 |\n")
    assert '<span class="c1"># one</span>' in html
    assert "<div class='scroll'><table>" in html


def test_headings_have_the_ids_of_a_forge():
    assert slug("Two routes: `dx`, and — why?") == "two-routes-dx-and--why"
    assert '<h2 id="on-a-gpu">' in html_of("## On a GPU")


def test_an_accordion_unfolds_without_a_script():
    html = static(mo.accordion({"first $x$": mo.md("**one**"), "second": "two"}).text)
    assert html.count("<details><summary>") == 2
    assert "<details><summary>first <math" in html
    assert "<strong>one</strong>" in html
    assert "marimo" not in html


def test_a_control_is_what_the_page_says_it_is():
    slider = mo.ui.slider(1, 3, label="n")
    html = static(mo.vstack([slider, mo.md("after")]).text, lambda id: f"<i>{id == slider._id}</i>")
    assert "<i>True</i>" in html
    assert "after" in html
    assert "marimo" not in html


def test_an_element_that_needs_a_script_is_refused():
    with pytest.raises(BrokenSite, match="<marimo-table> needs marimo's scripts"):
        static("<marimo-table></marimo-table>")


def test_colours_are_those_of_the_sites_themes():
    html = static("<b style='color:#888;top:0'>x</b><i style='border:1px solid #8886'>#888</i>")
    assert "color:var(--soft);" in html
    assert "#8886" in html


def test_a_picture_is_copied_as_it_is():
    svg = "<svg viewBox='0 0 1 1'><path d='M0 0'/><linearGradient id='a'></linearGradient></svg>"
    assert static(svg) == svg


def test_words_for_the_search_are_without_formulas_and_scripts():
    html = "<p>one&amp;<math><mi>x</mi></math> <b>two</b></p><script>three</script>"
    assert text_of(html) == "one& two"
