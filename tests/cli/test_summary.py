"""minise summary: formats, conventions, and mistakes."""

import json

import pytest

from minise.analysis import cost_of, table
from minise.cli import main
from minise.models import build
from minise.ops import cost


def shown(line, capsys):
    """Return the output of a call that succeeds."""
    assert main(["summary", *line.split()]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def costs_of(name, **settings):
    return cost_of(build(name, ops=cost.Shapes(), **settings))


def test_json_is_one_document(capsys):
    values = json.loads(shown("se_resnet8 --format json --reduction 4", capsys))
    costs = costs_of("se_resnet8", reduction=4)
    assert values == json.loads(table.json_text(costs, "se_resnet8"))
    assert values["totals"]["parameters"] == costs.parameters


def test_json_of_a_batch_with_another_back_end(capsys):
    values = json.loads(shown("resnet8 --format json --batch-size 8 --ops jit", capsys))
    expected = cost_of(build("resnet8", ops=cost.Shapes()), batch_size=8, ops="jit")
    assert values["batch_size"] == 8
    assert values["memory"] == expected.memory._asdict()


def test_json_of_the_papers_totals(capsys):
    values = json.loads(shown("se_resnet8 --format json --paper", capsys))
    assert values["paper"] == table.paper_totals(costs_of("se_resnet8"))
    assert "layers" not in values


def test_markdown_has_three_tables(capsys):
    title, *tables = shown("se_resnet8 --format markdown", capsys).rstrip("\n").split("\n\n")
    assert title == "# se_resnet8"
    grids = table.grids_of(costs_of("se_resnet8"), detail="full")
    assert tables == [grid.markdown() for grid in grids]


def test_the_papers_totals_are_one_small_table(capsys):
    out = shown("se_resnet20 --paper", capsys)
    lines = [line for line in out.splitlines() if line.strip()]
    assert len(lines) == len(table.PAPER_TITLES) + 3  # the name, the head, and a line
    assert max(map(len, map(str.rstrip, lines))) <= 80
    for key, number in table.paper_totals(costs_of("se_resnet20")).items():
        assert any(table.PAPER_TITLES[key] in line and f"{number:,}" in line for line in lines)


@pytest.mark.parametrize("convention", ["macs", "flops", "all"])
def test_conventions(convention, capsys):
    out = shown(f"se_resnet8 --convention {convention}", capsys)
    number = costs_of("se_resnet8").operations(convention)
    unit = table.UNITS[convention]
    (line,) = [line for line in out.splitlines() if f"{unit} of forward" in line]
    assert f"{number:,}" in line


def test_text_fits(capsys, monkeypatch):
    """In a file or pipe there is no terminal: tables have 100 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    out = shown("se_preact_resnet164", capsys)
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 100
    assert "layer1.0.downsample.0 " in out
    assert "saved" in out


def test_one_value_per_channel_is_told(capsys):
    out = shown("resnet8 --size 4 4", capsys)
    assert "batch norm has one value per channel, so the net is in evaluation mode" in out
    assert "evaluation" not in shown("resnet8 --size 8 8", capsys)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("resnet8 --format yaml", "--format is 'yaml', expected one of text, json, markdown"),
        ("resnet8 --convention gflops", "--convention is 'gflops', expected one of macs, flops"),
        ("resnet9 --paper", "model 'resnet9' is unknown: did you mean"),
        ("resnet9 --format json", "model 'resnet9' is unknown: did you mean"),
        ("resnet8 --batch-size 0 --format json", "batch_size is 0, expected at least 1"),
    ],
)
def test_mistakes_are_one_line(line, message, capsys):
    assert main(["summary", *line.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
