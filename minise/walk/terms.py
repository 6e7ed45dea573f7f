"""Mathematical terms, each as plain text and as MathML."""

import re
from html import escape
from typing import Any, NamedTuple

SUM, PRODUCT, POWER, ATOM = range(4)  # precedence of operators, lowest first

GREEK = {
    "alpha": "\N{GREEK SMALL LETTER ALPHA}",
    "beta": "\N{GREEK SMALL LETTER BETA}",
    "eps": "\N{GREEK SMALL LETTER EPSILON}",
    "gamma": "\N{GREEK SMALL LETTER GAMMA}",
}
NOT_GRADIENTS = ("divisor", "dilation", "dropout")  # names that begin with d by chance
FUNCTION_NAMES = {"exp", "log", "tanh", "max", "mean"}
SUM_SIGN = "∑"
MINUS = "\N{MINUS SIGN}"
SPACE = "<mspace width='.35em'/>"


class Term(NamedTuple):
    """A formula or part of a formula."""

    text: str
    mathml: str
    level: int = ATOM  # precedence of its outermost operator


def name_of(name: str) -> Term:
    """Return a name as a symbol: w1 and x_y with a subscript, xhat with a hat, dx with a d."""
    name, _, subscript = name.partition("[")
    if subscript:
        return at(name_of(name), [words(subscript.rstrip("]"))])
    gradient = re.match(r"d[a-z]", name) and not name.startswith(NOT_GRADIENTS)
    d, bare = ("d", name[1:]) if gradient else ("", name)
    stem, _, index = bare.partition("_")
    numbered = re.fullmatch(r"([a-zA-Z]+)(\d+)", stem)
    if numbered and not index:
        stem, index = numbered.groups()
    hat = stem.endswith("hat") and len(stem) > 3
    stem = stem.removesuffix("hat") if hat else stem
    symbol = GREEK.get(stem, stem)
    style = "" if len(symbol) == 1 else ' mathvariant="normal"'
    inner = f"<mi{style}>{escape(symbol)}</mi>"
    text = symbol + ("\N{COMBINING CIRCUMFLEX ACCENT}" if hat else "")
    if hat:
        inner = f"<mover accent='true'>{inner}<mo>^</mo></mover>"
    if d:
        inner, text = f"<mrow><mi mathvariant='normal'>d</mi>{inner}</mrow>", f"d{text}"
    if index:
        inner = f"<msub>{inner}<mtext>{escape(index.replace('_', ' '))}</mtext></msub>"
        text = f"{text}_{index}"
    return Term(text, inner)


def formula(left: Term, right: Term, sign: str = "=") -> Term:
    """Return ``left = right``, or ``left += right`` for a sum of several such terms."""
    text = f"{left.text} {sign} {right.text}"
    return Term(text, f"{left.mathml}<mo>{sign}</mo>{right.mathml}", SUM)


def words(text: str) -> Term:
    """Return plain words as a term."""
    return Term(text, f"<mtext>{escape(text)}</mtext>")


def indexed(base: Term, letters: str) -> Term:
    """Return a term with one index letter per axis, such as x[n,c]."""
    if not letters:
        return base
    return at(base, [Term(letter, f"<mi>{escape(letter)}</mi>") for letter in letters])


def at(base: Term, indices: list[Term]) -> Term:
    """Return a term with its indices in square brackets, as in code."""
    base = parenthesised(base, ATOM)
    row = "<mo>,</mo>".join(term.mathml for term in indices)
    text = f"{base.text}[{','.join(term.text for term in indices)}]"
    index = f"<mo stretchy='false'>[</mo>{row}<mo stretchy='false'>]</mo>"
    return Term(text, f"<mrow>{base.mathml}<mrow>{index}</mrow></mrow>")


def number(value: Any) -> Term:
    """Return a number or another constant, in Python's notation."""
    if isinstance(value, float) and value == int(value):
        value = int(value)
    text = repr(value)
    return Term(text, f"<mn>{escape(text)}</mn>")


def called(name: str, terms: list[Term]) -> Term:
    """Return a function call with some terms as arguments."""
    shown = name.strip("_").replace("_", " ")
    tag = "mi" if " " not in shown else "mtext"
    row = "<mo>,</mo>".join(term.mathml for term in terms)
    text = f"{shown}({', '.join(term.text for term in terms)})"
    opened = f"<{tag}>{escape(shown)}</{tag}><mo>&#x2061;</mo>"
    return Term(text, f"<mrow>{opened}{_bracketed(row)}</mrow>")


def over(sign: str, letters: list[str], inner: Term) -> Term:
    """Return a sum, a mean or a maximum of a term over some axes."""
    inner = parenthesised(inner, PRODUCT)
    index = "<mo>,</mo>".join(f"<mi>{escape(letter)}</mi>" for letter in letters)
    symbol = "<mo>∑</mo>" if sign == SUM_SIGN else f"<mi>{sign}</mi>"
    under = f"<munder>{symbol}<mrow>{index}</mrow></munder>"
    text = f"{sign}[{','.join(letters)}] {inner.text}"
    return Term(text, f"<mrow>{under}<mspace width='.2em'/>{inner.mathml}</mrow>", PRODUCT)


def joined(left: Term, sign: str, right: Term, level: int) -> Term:
    """Return two terms with an operator between them; level is its precedence."""
    mark = f"<mtext> {sign} </mtext>" if sign.isalpha() else f"<mo>{escape(sign)}</mo>"
    row = f"<mrow>{left.mathml}{mark}{right.mathml}</mrow>"
    return Term(f"{left.text} {sign} {right.text}", row, level)


def parenthesised(term: Term, level: int) -> Term:
    """Return a term, in parentheses if its precedence is below a level."""
    if term.level >= level:
        return term
    return Term(f"({term.text})", _bracketed(term.mathml))


def _bracketed(mathml: str) -> str:
    """Return MathML in parentheses, which are stretched only around fractions and sums."""
    stretchy = str("<mfrac" in mathml or "<munder" in mathml).lower()
    return f"<mrow><mo stretchy='{stretchy}'>(</mo>{mathml}<mo stretchy='{stretchy}'>)</mo></mrow>"
