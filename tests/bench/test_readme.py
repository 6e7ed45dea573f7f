"""The tables of minise/bench/README.md agree with the committed result files."""

import json
from pathlib import Path

import pytest

import minise.bench

FOLDER = Path(minise.bench.__file__).parent
README = (FOLDER / "README.md").read_text()
PATHS = sorted((FOLDER / "results").glob("*.json"))
CONTENTS = {path.name: json.loads(path.read_text()) for path in PATHS}
RESULTS = {name: content for name, content in CONTENTS.items() if name != "checkers.json"}
IMPLEMENTATIONS = ("minise", "torch", "torch-channels-last", "torch-compile")
PROCESSOR_UNSTATED = ("cpu-se_resnet20.json", "scaling.json")  # where README describes them
LABELS = {  # names of SE-ResNet-20's implementations in its table
    "minise": "minise, jit",
    "torch": "PyTorch, eager",
    "torch-channels-last": "PyTorch, channels_last",
    "torch-compile": "PyTorch, torch.compile",
    "numpy-im2col": "NumPy, im2col",
}


def ms(value):
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


def row(*cells):
    return f"| {' | '.join(cells)} |"


def file_rows():
    """Return a row for each result file: date, processor, rounds, load by others, command."""
    for name, content in RESULTS.items():
        measured = content.get("works", content.get("rows", [content]))
        used = sum(len(entry["rounds_kept"]) for entry in measured)
        rounds = sum(len(entry["rounds"]) for entry in measured)
        cores = max(entry["others_at_most_cores"] for entry in measured)
        command = f"`{' '.join(content['command'])}`"
        date = content["date"][:16].replace("T", " ")
        circumstances = (date, content["machine"]["processor"])
        load = (f"{used} of {rounds}", f"{cores:.2f}")
        yield row(f"[{name}](results/{name})", *circumstances, *load, command)


def step_rows():
    """Return a row for each implementation of a training step of SE-ResNet-20."""
    content = RESULTS["cpu-se_resnet20.json"]
    for name, measured in content["works"][0]["contestants"].items():
        times, ratio = measured["ms"], measured["ratio_to_minise"]["median"]
        quartiles = f"{ms(times['lower'])} to {ms(times['upper'])}"
        start = content["start_seconds"][name]
        seconds = f"{start['cold']:.1f}, {start['warm']:.1f}"
        memory = f"{measured['memory']['mib']:.0f}"
        yield row(LABELS[name], ms(times["median"]), quartiles, f"{ratio:.2f}", seconds, memory)


def workload_rows():
    """Return, for each workload in a file, processor, times as multiples of minise's, and MiB."""
    for name, content in RESULTS.items():
        for entry in content.get("works", ()):
            measured = [entry["contestants"].get(key) for key in IMPLEMENTATIONS]
            ratios = [f"{m['ratio_to_minise']['median']:.2f}" if m else "" for m in measured[1:]]
            memory = [f"{m['memory']['mib']:,.0f}" for m in measured if m]
            cells = (content["machine"]["processor"], ms(measured[0]["ms"]["median"]), *ratios)
            yield row(f"[{name}](results/{name})", *cells, ", ".join(memory))


def shape_rows():
    """Return, for each convolution, minise's time and PyTorch's as a multiple, both passes."""
    for content in RESULTS.values():
        entries = [entry for entry in content.get("rows", ()) if "shape" in entry]
        for passes in zip(entries[::2], entries[1::2], strict=True):
            cells = [passes[0]["shape"], str(passes[0]["batch"])]
            for entry in passes:
                ratio, time = entry["ratio"], entry["contestants"]["minise"]["ms"]["median"]
                cells += [f"{time:.3g}", f"{ratio['median']:.2f} ({ratio['lower']:.2f})"]
            yield row(*cells)


def checker_rows():
    """Return a row for each gradient checker."""
    for name, checker in CONTENTS["checkers.json"]["checkers"].items():
        counts = checker["all"]
        times = (counts["median_seconds_right"], counts["median_seconds_wrong"])
        caught, rejected = str(counts["caught"]), str(counts["false_alarms"])
        yield row(name, caught, rejected, *(f"{1000 * seconds:.1f}" for seconds in times))


LINES = README.splitlines()
TABLES = {
    rows.__name__: [*rows()]
    for rows in (file_rows, step_rows, workload_rows, shape_rows, checker_rows)
}


@pytest.mark.parametrize("rows", TABLES.values(), ids=TABLES)
def test_every_measurement_is_listed(rows):
    """A row of the README may begin with another cell, the name of the workload."""
    missing = [row for row in rows if not any(line.endswith(row) for line in LINES)]
    assert missing == []


def test_every_row_with_a_file_is_a_measurement():
    rows = tuple(row for name in ("file_rows", "workload_rows") for row in TABLES[name])
    listed = [line for line in LINES if line.startswith("|") and "](results/" in line]
    assert [line for line in listed if not line.endswith(rows)] == []
    assert len(listed) == len(rows)


def test_the_fitted_lines_agree_with_the_file():
    units = {"depth": "layer", "batch": "image"}
    for series in RESULTS["scaling.json"]["series"]:
        line = series["line"]
        fit = f"{line['slope']:.2f} ms per {units[series['axis']]}, R^2 {line['r2']:.4f}"
        assert fit in README.replace("\n", " ")


def test_the_machine_of_every_result_is_described():
    """Texts and tables that do not state a processor are about the first one."""
    section = README.partition("\n## The machines\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    described = [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]]
    processors = {name: content["machine"]["processor"] for name, content in RESULTS.items()}
    assert sorted(described) == sorted(set(processors.values()))
    assert {processors[name] for name in PROCESSOR_UNSTATED} == {described[0]}


def test_all_results_have_the_stated_version_of_pytorch():
    assert "PyTorch 2.13.0 for CPUs" in README.replace("\n", " ")
    for content in RESULTS.values():
        assert content["versions"]["torch"] == "2.13.0+cpu"
