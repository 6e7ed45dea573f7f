"""Terms of mathematics, written twice at once: as plain text and as MathML."""

import re
from html import escape
from typing import Any, NamedTuple

SUM, PRODUCT, POWER, ATOM = range(4)  # how tightly a term holds together

GREEK = {
    "beta": "\N{GREEK SMALL LETTER BETA}",
    "eps": "\N{GREEK SMALL LETTER EPSILON}",
    "gamma": "\N{GREEK SMALL LETTER GAMMA}",
}
NO_GRADIENT = ("divisor", "dilation", "dropout")  # words that begin with d
NAMES = {"exp", "log", "tanh", "max", "mean"}  # of functions
SUM_SIGN = "∑"
MINUS = "\N{MINUS SIGN}"
SPACE = "<mspace width='.35em'/>"


class Term(NamedTuple):
    """A formula, or a part of one."""

    text: str
    mathml: str
    level: int = ATOM


def name_of(name: str) -> Term:
    """Return a name as mathematics has it: digits and what follows _ are indices, hat is a hat."""
    name, _, place = name.partition("[")
    if place:
        return at(name_of(name), [words(place.rstrip("]"))])
    gradient = re.match(r"d[a-z]", name) and not name.startswith(NO_GRADIENT)
    d, bare = ("d", name[1:]) if gradient else ("", name)
    stem, _, index = bare.partition("_")
    found = re.fullmatch(r"([a-zA-Z]+)(\d+)", stem)
    if found and not index:
        stem, index = found.groups()
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


def formula(left: Term, right: Term) -> Term:
    """Return ``left = right``."""
    return Term(f"{left.text} = {right.text}", f"{left.mathml}<mo>=</mo>{right.mathml}", SUM)


def words(text: str) -> Term:
    """Return plain words."""
    return Term(text, f"<mtext>{escape(text)}</mtext>")


def indexed(base: Term, letters: str) -> Term:
    """Return a term with an index for each letter."""
    if not letters:
        return base
    return at(base, [Term(one, f"<mi>{escape(one)}</mi>") for one in letters])


def at(base: Term, places: list[Term]) -> Term:
    """Return a term with an index in brackets, as code has it."""
    base = held(base, ATOM)
    row = "<mo>,</mo>".join(term.mathml for term in places)
    text = f"{base.text}[{','.join(term.text for term in places)}]"
    index = f"<mo stretchy='false'>[</mo>{row}<mo stretchy='false'>]</mo>"
    return Term(text, f"<mrow>{base.mathml}<mrow>{index}</mrow></mrow>")


def number(value: Any) -> Term:
    """Return a number, or any other constant, as Python writes it."""
    if isinstance(value, float) and value == int(value):
        value = int(value)
    text = repr(value)
    return Term(text, f"<mn>{escape(text)}</mn>")


def called(name: str, terms: list[Term]) -> Term:
    """Return a function of some terms."""
    shown = name.strip("_").replace("_", " ")
    tag = "mi" if " " not in shown else "mtext"
    row = "<mo>,</mo>".join(term.mathml for term in terms)
    text = f"{shown}({', '.join(term.text for term in terms)})"
    opened = f"<{tag}>{escape(shown)}</{tag}><mo>&#x2061;</mo>"
    return Term(text, f"<mrow>{opened}{_bracketed(row)}</mrow>")


def over(sign: str, letters: list[str], inner: Term) -> Term:
    """Return a sum, a mean or a maximum of a term over some axes."""
    inner = held(inner, PRODUCT)
    index = "<mo>,</mo>".join(f"<mi>{escape(one)}</mi>" for one in letters)
    symbol = "<mo>∑</mo>" if sign == SUM_SIGN else f"<mi>{sign}</mi>"
    under = f"<munder>{symbol}<mrow>{index}</mrow></munder>"
    text = f"{sign}[{','.join(letters)}] {inner.text}"
    return Term(text, f"<mrow>{under}<mspace width='.2em'/>{inner.mathml}</mrow>", PRODUCT)


def joined(left: Term, sign: str, right: Term, level: int) -> Term:
    """Return two terms with a sign between them."""
    mark = f"<mtext> {sign} </mtext>" if sign.isalpha() else f"<mo>{escape(sign)}</mo>"
    row = f"<mrow>{left.mathml}{mark}{right.mathml}</mrow>"
    return Term(f"{left.text} {sign} {right.text}", row, level)


def held(term: Term, level: int) -> Term:
    """Return a term in brackets, if it holds together less tightly than it has to."""
    if term.level >= level:
        return term
    return Term(f"({term.text})", _bracketed(term.mathml))


def _bracketed(mathml: str) -> str:
    """Return round brackets, as tall as what they hold only where that is more than a line."""
    grows = str("<mfrac" in mathml or "<munder" in mathml).lower()
    return f"<mrow><mo stretchy='{grows}'>(</mo>{mathml}<mo stretchy='{grows}'>)</mo></mrow>"
