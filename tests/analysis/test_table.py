"""The costs of nets as text, Markdown and JSON."""

import json
from io import StringIO

import pytest
from rich.console import Console

from minise import models, nn
from minise.analysis import cost_of, table
from minise.ops import cost


def costs_of(name="se_resnet8", **settings):
    """Return the costs of a model at its own size."""
    return cost_of(models.build(name, ops=cost.Shapes(), **settings))


def printed(grid, width):
    """Return the lines of a table in a terminal of this width."""
    file = StringIO()
    Console(file=file, width=width).print(grid.rich("title"))
    return file.getvalue().splitlines()


def test_json_has_all_numbers():
    costs = costs_of()
    values = json.loads(table.json_text(costs, "mine", "flops"))
    assert (values["model"], values["input"], values["batch_size"]) == ("mine", [3, 32, 32], 1)
    assert (values["training"], values["convention"]) == (True, "flops")
    for row, layer in zip(values["layers"], costs.layers, strict=True):
        assert (row["layer"], row["kind"]) == (layer.layer, layer.kind)
        assert tuple(row["shape"]) == layer.shape
        assert row["forward"] == layer.forward
        assert row["operations_forward"] == 2 * layer.macs
        assert (row["excitation"] is None) == (not layer.se)
    totals = values["totals"]
    for name in ("parameters", "statistics", "folded", "moved_forward", "moved_backward", "saved"):
        assert totals[name] == getattr(costs, name) == sum(row[name] for row in values["layers"])
    assert totals["backward"] == costs.backward
    assert totals["operations_backward"] == costs.operations("flops", "backward")
    assert totals["excitation"] == costs.excitation._asdict()
    assert values["memory"] == costs.memory._asdict()
    assert values["paper"] == table.paper_totals(costs)


def test_numbers_in_json_are_integers():
    def floats(value):
        if isinstance(value, dict | list):
            inner = value.values() if isinstance(value, dict) else value
            return [number for entry in inner for number in floats(entry)]
        return [value] if isinstance(value, float) else []

    net = nn.Chain(nn.SEBlock(10, nn.SE(3)))  # whose formula is no whole number
    values = json.loads(table.json_text(cost_of(net, (10, 4, 4)), "mine"))
    assert floats(values) == []
    assert values["paper"]["se_formula"] == 67  # 2 / 3 * 100


def test_json_of_the_papers_totals():
    costs = costs_of("resnet8")
    values = json.loads(table.json_text(costs, "resnet8", paper=True))
    assert list(values) == ["model", "input", "batch_size", "training", "paper"]
    assert values["paper"] == {
        "parameters": costs.parameters,
        "parameters_with_statistics": costs.parameters + costs.statistics,
        "parameters_folded": costs.folded,
        **dict.fromkeys(("macs_conv_fc", "macs_with_se_fc"), costs.macs),
        **dict.fromkeys(("macs_with_gate", "macs_with_squeeze"), costs.macs),
    }


def test_the_papers_totals():
    """SE-ResNet-20 with reduction 4: 3 blocks in each of 3 stages."""
    biased, plain = costs_of("se_resnet20", reduction=4), costs_of("resnet20")
    totals = table.paper_totals(biased)
    statistics = 2 * (7 * 16 + 7 * 32 + 7 * 64)  # each stage: 6 norms, and the stem's or shortcut's
    assert totals["parameters"] == 272_474 + 8_064 + 420
    assert totals["parameters_without_se_biases"] == 272_474 + 8_064
    assert totals["se_weights"] == totals["se_formula"] == 2 * 3 * (16**2 + 32**2 + 64**2) // 4
    assert totals["parameters_with_statistics"] == totals["parameters"] + statistics
    assert totals["parameters_folded"] == totals["parameters"] - statistics // 2
    unbiased = table.paper_totals(costs_of("se_resnet20", reduction=4, bias=False))
    for key in ("parameters", "parameters_with_statistics", "parameters_folded"):
        assert totals[f"{key}_without_se_biases"] == unbiased[key]
    gated = 3 * (16 * 32**2 + 32 * 16**2 + 64 * 8**2)
    assert totals["macs_conv_fc"] == plain.macs
    assert totals["macs_with_se_fc"] == plain.macs + 8_064
    assert totals["macs_with_gate"] == biased.macs == plain.macs + 8_064 + gated
    assert totals["macs_with_squeeze"] == plain.macs + 8_064 + 2 * gated
    assert list(totals) == list(table.PAPER_TITLES)


def test_markdown():
    grid = table.Grid(("layer", "kind", "MACs"), [("conv", "Conv2d", "1,000")], 2)
    assert grid.markdown().splitlines() == [
        "| layer | kind | MACs |",
        "| :--- | :--- | ---: |",
        "| conv | Conv2d | 1,000 |",
    ]
    layers, totals, kinds = table.grids_of(costs_of())
    for grid in (layers, totals, kinds):
        lines = grid.markdown().splitlines()
        assert len({line.count("|") for line in lines}) == 1
        assert len(lines) == 2 + len(grid.rows)


@pytest.mark.parametrize(("width", "detail"), [(100, "wide"), (80, "narrow"), (66, "short")])
def test_tables_of_a_deep_net_fit(width, detail):
    """No name is cut, and no number wrapped."""
    costs = costs_of("se_preact_resnet164")
    for grid in table.grids_of(costs, detail=detail):
        lines = printed(grid, width)
        assert max(len(line.rstrip()) for line in lines) <= width
        for cells in grid.rows:
            assert any(cells[0] in line and cells[-1] in line for line in lines)


def test_the_convention_is_in_the_head():
    for convention, unit in table.UNITS.items():
        costs = costs_of()
        layers, totals, _ = table.grids_of(costs, convention)
        assert layers.head[4] == unit
        texts = {row[0]: row[1] for row in totals.rows}
        assert texts[f"{unit} of backward"] == f"{costs.operations(convention, 'backward'):,}"


def test_the_full_table_has_all_numbers_of_a_layer():
    costs = cost_of(nn.Chain(("conv", nn.Conv2d(3, 4, 3)), ("bn", nn.BatchNorm2d(4))), 6, 2)
    grid = table.layer_grid(costs, "flops", "full")
    assert grid.head[3:] == (
        *("parameters", "statistics", "folded", "FLOPs", "FLOPs backward", "moved", "saved"),
    )
    flops = f"{2 * 2 * 4 * 16 * 27:,}"
    assert [row[:8] for row in grid.rows] == [
        ("conv", "Conv2d", "4x4x4", "108", "", "112", flops, flops),
        ("bn", "BatchNorm2d", "4x4x4", "8", "8", "", "", ""),
    ]


def test_totals_of_a_net_without_se_blocks_and_of_a_batch():
    costs = cost_of(nn.Chain(nn.Linear(7, 2)), (7,), batch_size=3)
    _, totals, kinds = table.grids_of(costs)
    assert totals.head == ("total", "3 inputs of 7")
    assert ("MACs of forward", "42") in totals.rows
    # linear_backward computes dx although no layer needs it
    assert kinds.rows == [("fc", "42", "84"), ("bias", "6", "6")]


@pytest.mark.parametrize(("width", "columns"), [(100, 7), (80, 5)])
def test_long_names_and_numbers(width, columns):
    """Names wrap after a dot, kinds between words, and numbers and shapes never."""
    name = "features.denseblock4.denselayer16.norm1"
    sizes = "1024x112x112", "102,764,544", "1,849,688,064", "128.4 MB", "1.2 GB"
    cells = (name, "BatchNorm2d, ReLU", *sizes)[:columns]
    lines = printed(table.Grid(("layer", "kind", *"abcde")[:columns], [cells], 3), width)
    assert max(len(line.rstrip()) for line in lines) <= width
    for part in ("features.denseblock4. ", " BatchNorm2d,", *cells[2:]):
        assert any(part in line for line in lines)
    assert any(line.startswith(" denselayer16.norm1") and " ReLU" in line for line in lines)
