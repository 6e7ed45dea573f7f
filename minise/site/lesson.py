"""A lesson as a page: its prose, the code that it shows, and what its cells show."""

import json
import re
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from minise.grading.answer import Answer
from minise.grading.exercise import Exercise
from minise.lessons.judged import Judged
from minise.site.checkout import BrokenSite
from minise.site.code import highlighted
from minise.site.markdown import html_of, static, text_of
from minise.site.run import Cell, Control, Lesson
from minise.walk.page import page as walk_page
from minise.walk.steps import Trace


class Shown(NamedTuple):
    """The body of a lesson's page, and the pages of the walks that it shows."""

    title: str
    body: str
    walks: dict[str, str]  # by address


class LessonPage:
    """Makes the page of a lesson.

    Parameters
    ----------
    path : path
        The lesson.
    """

    def __init__(self, path: Path) -> None:
        self.lesson = Lesson(path)
        self.stem = path.stem
        self.walks: dict[str, str] = {}
        outputs = [cell.output for cell in self.lesson.cells]
        self._judged = {shown.function.__name__ for shown in outputs if isinstance(shown, Judged)}
        self._judged |= {shown.title for shown in outputs if isinstance(shown, Answer)}

    def shown(self) -> Shown:
        """Return the body of the page."""
        setup, *cells = [self._cell(cell) for cell in self.lesson.cells]
        body = "\n".join(filter(None, cells))
        heading = re.search(r"<h1[^>]*>(.*?)</h1>", body, re.DOTALL)
        if heading is None:
            raise BrokenSite(f"site: {self.stem} has no heading, expected '# ' in its first cell")
        aside = (
            "<p class='aside'>This page shows what the lesson computes. To change its code, and to "
            "have your solution judged, run it: <code>marimo edit tutorials</code>, or open the "
            f"<a href='site:notebooks/{self.stem}.ipynb'>notebook</a> in Jupyter.</p>"
        )
        body = body.replace(heading[0], heading[0] + aside + setup, 1)
        return Shown(text_of(heading[1]), body, self.walks)

    def _cell(self, cell: Cell) -> str:
        code = ""
        if cell.code.strip() and not cell.hidden and not self._is_exercise(cell):
            code = highlighted(cell.code)
            if cell is self.lesson.cells[0]:
                code = f"<details class='imports'><summary>Imports</summary>{code}</details>"
        if cell.timed:
            output = (
                "<p class='aside'>This cell measures the machine on which it runs, so its result "
                "is shown in a running lesson only.</p>"
                if not cell.hidden
                else ""
            )
        else:
            output = self._choices(cell) if cell.choices else self.html_of(cell.output)
        if not code and not output:
            return ""
        return f"<div class='cell'>{code}{output}</div>" if code else output

    def _is_exercise(self, cell: Cell) -> bool:
        """Return whether a cell has only the function that a worksheet shows."""
        return cell.function and not self._judged.isdisjoint(cell.defs)

    def _choices(self, cell: Cell) -> str:
        """Return what a cell shows at each choice of values of the controls above it."""
        if isinstance(cell.output, Trace):  # a page for each choice would be too much
            return self.html_of(cell.output)
        outputs = {places: self.html_of(output) for places, output in cell.choices.items()}
        controls = {control.name: control for control in self.lesson.controls.values()}
        own = tuple(controls[name].chosen for name in cell.controls)
        if len(set(outputs.values())) == 1:
            return outputs[own]
        parts = [
            f"<div data-when='{' '.join(map(str, places))}'{'' if places == own else ' hidden'}>"
            f"{html}</div><!--choice-->"
            for places, html in outputs.items()
        ]
        depends = " ".join(f"control-{name}" for name in cell.controls)
        return f"<div data-depends='{depends}'>{''.join(parts)}</div>"

    def html_of(self, value: Any) -> str:
        """Return what a cell shows as static HTML."""
        from marimo import Html
        from marimo._output.md import _md

        if value is None:
            return ""
        if isinstance(value, Judged):
            return _worksheet(value.exercise.worksheet(value.function))
        if isinstance(value, Answer):
            return self._answer(value)
        if isinstance(value, Trace):
            return self._walk(value)
        if isinstance(value, _md):
            return static(html_of(value._markdown_text), self._control)
        if isinstance(value, Html):
            return _output(static(value.text, self._control))
        if hasattr(value, "_repr_html_"):
            return _output(static(value._repr_html_()))
        return f"<pre>{escape(str(value))}</pre>"

    def _answer(self, answer: Answer) -> str:
        """Return the worksheet of the exercise that gave an answer."""
        for value in self.lesson.values.values():
            if isinstance(value, Exercise) and f"{value.op}_backward" == answer.title:
                return _worksheet(value.worksheet(self.lesson.values[answer.title]))
        return _output(static(answer._repr_html_()))

    def _walk(self, trace: Trace) -> str:
        """Return a link to the page of a trace, and a frame with it."""
        file = f"lesson-{self.stem[:2]}-{len(self.walks) + 1}.html"
        self.walks[f"walks/{file}"] = walk_page(trace, "index.html")
        return walk_frame(f"walks/{file}", trace.name, len(trace.steps))

    def _control(self, id: str) -> str:
        control = self.lesson.controls.get(id)
        if control is None:
            return "<p class='aside'>A running lesson has a switch here.</p>"
        return control_html(control)


def walk_frame(address: str, name: str, count: int | None = None) -> str:
    """Return a link to a walk, and a folded frame with it.

    Parameters
    ----------
    address : str
        Relative to the folder of the site, with a fragment such as "#step-18" to begin at a step.
    name : str
        What it is a walk of.
    count : int, optional
        Number of steps.
    """
    steps = f", in {count} steps" if count else ""
    what = f"Every number of <code>{escape(name)}</code>{steps}"
    return (
        f"<div class='walk'><a href='site:{address}'>{what}</a>"
        f"<details><summary>Open it here</summary><iframe loading='lazy' src='site:{address}' "
        f"title='{escape(name)}, step by step'></iframe></details></div>"
    )


def control_html(control: Control) -> str:
    """Return a range that chooses between values; each result is on the page for each value."""
    id = f"control-{control.name}"
    label = static_label(control.label)
    last = len(control.values) - 1
    return (
        f"<div class='control'><label for='{id}'>{label}</label>"
        f"<input type='range' id='{id}' min='0' max='{last}' step='1' value='{control.chosen}' "
        f"data-values='{escape(json.dumps(control.labels), quote=True)}' disabled>"
        f"<output data-says='{id}' for='{id}'>{escape(control.labels[control.chosen])}</output>"
        "</div>"
    )


def static_label(markdown: str) -> str:
    """Return a line of Markdown as HTML without a paragraph around it."""
    return re.sub(r"^<p>(.*)</p>$", r"\1", html_of(markdown).strip(), flags=re.DOTALL)


def _worksheet(html: str) -> str:
    """Return an exercise with blanks and folded hints."""
    return f"<div class='worksheet'>{static(html)}</div>"


def _output(html: str) -> str:
    return f"<div class='output'>{html}</div>"
