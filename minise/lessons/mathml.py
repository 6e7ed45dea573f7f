"""Turn LaTeX into MathML, which every browser shows without a script."""

import re

# What latex2mathml does not know: a command or environment and what stands for it.
REPLACED = {
    r"\begin{aligned}": r"\begin{split}",
    r"\end{aligned}": r"\end{split}",
    r"\mathrel{+}=": "{+=}",
}


def mathml(latex: str, *, block: bool = False) -> str:
    r"""Return a formula as a <math> element.

    Parameters
    ----------
    latex : str
        The formula, without dollar signs.
    block : bool
        Whether it stands in a paragraph of its own.

    Raises
    ------
    ValueError
        If the formula is not LaTeX, or a command is not known, which would be shown as it is
        written.
    ImportError
        If latex2mathml is not installed.
    """
    from latex2mathml.converter import convert

    text = latex.strip()
    for old, new in REPLACED.items():
        text = text.replace(old, new)
    try:
        html: str = convert(text, display="block" if block else "inline")
    except Exception as error:  # of many classes
        raise ValueError(
            f"mathml: {latex.strip()!r} is not LaTeX that latex2mathml reads "
            f"({type(error).__name__}): correct the formula"
        ) from error
    if unknown := re.search(r">\s*(\\[a-zA-Z]+|&)\s*<", html):
        raise ValueError(
            f"mathml: {unknown[1]} in {latex.strip()!r} is not known, expected LaTeX that "
            "latex2mathml reads: write it in another way"
        )
    return html
