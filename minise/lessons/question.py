"""Questions to answer before the text does: predict, then reveal."""

import inspect
from typing import TypeVar

from minise.lessons.markdown import html_of

T = TypeVar("T")

BOX = "border-left:4px solid {colour};padding:.1em 0 .1em .8em;margin:.6em 0"


class Question:
    r"""A question whose answer is folded until the reader has made a prediction.

    Parameters
    ----------
    prompt, answer : str
        Markdown with LaTeX. Numbers of the answer should come from the lesson: pass an f-string.

    Raises
    ------
    ValueError
        If the prompt or the answer is empty.

    Examples
    --------
    >>> print(Question("What is `dx` for $x^2$ at 3?", f"$2x$, which is {2 * 3}."))
    Predict: What is `dx` for $x^2$ at 3?
    Answer: $2x$, which is 6.
    """

    def __init__(self, prompt: str, answer: str) -> None:
        self.prompt, self.answer = inspect.cleandoc(prompt), inspect.cleandoc(answer)
        for name, text in (("prompt", self.prompt), ("answer", self.answer)):
            if not text.strip():
                raise ValueError(f"Question: {name} is empty, expected a text in Markdown")

    def __str__(self) -> str:
        """Return the question and its answer as text."""
        return f"Predict: {self.prompt}\nAnswer: {self.answer}"

    def _repr_html_(self) -> str:
        """Return the question with a folded answer."""
        return (
            f"<div style='{BOX.format(colour='#2166ac')}'><b>Predict, then unfold.</b> "
            f"{html_of(self.prompt)}"
            "<details style='margin:.3em 0'><summary style='cursor:pointer;padding:.3em 0'>answer"
            f"</summary><div style='margin:.2em 1em'>{html_of(self.answer)}</div></details></div>"
        )


def show(value: T) -> T:
    """Return a value for a cell to show; print it if the lesson runs as a script."""
    import marimo as mo

    if mo.app_meta().mode == "script":
        print(value)
    return value
