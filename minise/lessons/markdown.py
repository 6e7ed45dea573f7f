"""Turn Markdown with LaTeX into HTML that each kind of page shows.

A running marimo draws LaTeX itself. Anywhere else (Jupyter, a static page) formulas become MathML,
which every browser shows without a script, or stay LaTeX if latex2mathml is not installed.
"""

import inspect
import re
from html import unescape

from minise.lessons.mathml import mathml

FORMULA = re.compile(r"<marimo-tex[^>]*>\|\|([(\[])(.*?)\|\|[)\]]</marimo-tex>", re.DOTALL)


def html_of(markdown: str) -> str:
    r"""Return Markdown with LaTeX as HTML.

    Parameters
    ----------
    markdown : str
        Text with formulas in ``$...$``, or in ``$$...$$`` in a paragraph of their own.
    """
    import marimo as mo

    text: str = mo.md(inspect.cleandoc(markdown)).text
    return text if mo.running_in_notebook() else FORMULA.sub(_static_formula, text)


def _static_formula(match: re.Match[str]) -> str:
    """Return a formula as MathML, or as LaTeX if latex2mathml is not installed."""
    bracket, latex = match[1], unescape(match[2]).strip()
    try:
        return mathml(latex, block=bracket == "[")
    except ImportError:
        return f"\\({latex}\\)" if bracket == "(" else f"\\[{latex}\\]"
