"""Run a lesson cell by cell, and again with other values of its controls."""

import contextlib
import importlib.util
import io
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from minise.site.checkout import BrokenSite

CLOCKS = ("perf_counter(", "process_time(", "monotonic(")
MAX_VALUES = 7  # of one control
MAX_CHOICES = 48  # of all controls of a result together


class Control(NamedTuple):
    """A slider or a list of choices, and the values that the page offers."""

    name: str
    label: str  # Markdown
    labels: tuple[str, ...]  # of the values
    values: tuple[Any, ...]
    chosen: int  # the place of the lesson's own value


@dataclass
class Cell:
    """A cell of a lesson with what it shows."""

    code: str
    hidden: bool  # whether the lesson hides the code
    function: bool  # whether it only defines a function for the reader to fill in
    output: Any = None
    timed: bool = False  # not run, as it reads a clock
    defs: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()  # the controls that change the output
    choices: dict[tuple[int, ...], Any] = field(default_factory=dict)  # places of values -> output


class Lesson:
    """A lesson that has run.

    Parameters
    ----------
    path : path
        The lesson, a marimo notebook.

    Attributes
    ----------
    cells : list of Cell
        In the order in which they stand.
    controls : dict
        From the id of marimo's element to the control.
    values : dict
        What the cells define.
    """

    def __init__(self, path: Path) -> None:
        from marimo._ast.app import InternalApp
        from marimo._runtime import dataflow

        app = InternalApp(module_of(path).app)
        self.title = app.config.app_title or path.stem
        self._graph, self._sort = app.graph, dataflow.topological_sort
        self.values: dict[str, Any] = {"__file__": str(path), "__name__": "lesson"}
        self.controls: dict[str, Control] = {}
        cells = {}
        clocks = {id for id, cell in self._graph.cells.items() if _reads_a_clock(cell.code)}
        timed = clocks.union(*(self._graph.descendants(id) for id in clocks))
        for data in app.cell_manager.cell_data():
            cell = self._graph.cells[data.cell_id]
            cells[data.cell_id] = Cell(
                data.code,
                bool(data.config.hide_code),
                data.name.startswith("*"),
                timed=data.cell_id in timed,
                defs=tuple(sorted(cell.defs)),
            )
        for id in app.execution_order:
            if id not in timed:
                cells[id].output = _execute(self._graph.cells[id], self.values)
        self.cells = list(cells.values())
        self._by_id = cells
        self._read_controls()
        self._try_values()

    def _read_controls(self) -> None:
        self._elements = {}
        for cell in self.cells:
            for name in cell.defs:
                control = _control(name, self.values.get(name))
                if control is not None:
                    self.controls[self.values[name]._id] = control
                    self._elements[name] = (control, self.values[name])

    def _try_values(self) -> None:
        """Run what depends on controls once for each choice of their values."""
        of = {id: self._controls_of(id) for id in self._by_id}
        for names in dict.fromkeys(filter(None, of.values())):
            dependent = [id for id, own in of.items() if set(own) <= set(names) and own]
            showing = [id for id in dependent if of[id] == names]
            controls = _thinned([self._elements[name][0] for name in names])
            for name, control in zip(names, controls, strict=True):
                self._elements[name] = (control, self._elements[name][1])
                self.controls[self._elements[name][1]._id] = control
            for places in itertools.product(*(range(len(c.values)) for c in controls)):
                outputs = self._outputs(names, controls, places, dependent)
                for id in showing:
                    self._by_id[id].controls = names
                    self._by_id[id].choices[places] = outputs[id]

    def _controls_of(self, id: Any) -> tuple[str, ...]:
        """Return the controls that a cell reads, itself or through the cells above it."""
        if self._by_id[id].timed:
            return ()
        cells = [self._graph.cells[above] for above in (id, *self._graph.ancestors(id))]
        read = {name for cell in cells for name in cell.refs}
        return tuple(name for name in self._elements if name in read)

    def _outputs(
        self, names: Any, controls: list[Control], places: tuple[int, ...], dependent: list[Any]
    ) -> dict[Any, Any]:
        """Return what cells show with some values of the controls."""
        elements = [self._elements[name][1] for name in names]
        before = [element._value for element in elements]
        values, outputs = dict(self.values), {}
        try:
            for element, control, index in zip(elements, controls, places, strict=True):
                element._value = control.values[index]
            for id in self._sort(self._graph, dependent):
                outputs[id] = _execute(self._graph.cells[id], values)
        finally:
            for element, value in zip(elements, before, strict=True):
                element._value = value
        return outputs


def module_of(path: Path) -> Any:
    """Import a lesson; marimo reads the source of its functions from the module."""
    name = f"lesson_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BrokenSite(f"site: {path} cannot be imported, expected a lesson in Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _execute(cell: Any, values: dict[str, Any]) -> Any:
    """Run a cell and return the value of its last line; what it prints is not shown."""
    with contextlib.redirect_stdout(io.StringIO()):
        exec(cell.body, values)
        return eval(cell.last_expr, values)


def _reads_a_clock(code: str) -> bool:
    return any(clock in code for clock in CLOCKS)


def _control(name: str, element: Any) -> Control | None:
    """Return a slider or list of choices with at most MAX_VALUES values, its own among them."""
    kind = type(element).__name__
    if kind == "slider":
        values = list(element.steps or _range(element.start, element.stop, element.step))
        labels = [f"{value:g}" for value in values]
        current = values.index(element.value)
    elif kind == "dropdown":
        labels, values = list(element.options), list(element.options.values())
        current = values.index(element.value)
    else:
        return None
    return Control(name, element._args.label or name, tuple(labels), tuple(values), current)


def _range(start: Any, stop: Any, step: Any) -> Iterator[Any]:
    step = 1 if step is None else step
    for k in range(round((stop - start) / step) + 1):
        yield start + k * step


def _thinned(controls: list[Control]) -> list[Control]:
    """Return controls with so few values that all choices together are at most MAX_CHOICES."""
    most = [MAX_VALUES] * len(controls)
    while True:
        thinned = [_thin(control, n) for control, n in zip(controls, most, strict=True)]
        counts = [len(control.values) for control in thinned]
        product = 1
        for count in counts:
            product *= count
        if product <= MAX_CHOICES:
            return thinned
        most[counts.index(max(counts))] = max(counts) - 1


def _thin(control: Control, most: int) -> Control:
    """Return a control with at most so many values: its own, the ends, and some between."""
    count = len(control.values)
    if count <= most:
        return control
    places = {round(k * (count - 1) / (most - 2)) for k in range(most - 1)}
    shown = sorted({*places, control.chosen})
    return control._replace(
        labels=tuple(control.labels[k] for k in shown),
        values=tuple(control.values[k] for k in shown),
        chosen=shown.index(control.chosen),
    )
