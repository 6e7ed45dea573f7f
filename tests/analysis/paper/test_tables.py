"""Every number of the paper agrees or is explained, and explanations claim what is so."""

import pytest

from minise.analysis import paper
from minise.analysis.conventions import parameters
from minise.analysis.paper.comparison import agrees, is_macs, read
from minise.analysis.paper.imagenet import RESNET50, SE_RESNET50
from tests.cli.commands import call

SLOW = ("2", "cifar", "senet154")  # tables of many nets
every_table = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in paper.TABLES]
)


@every_table
def test_every_row_agrees_or_is_explained(name):
    for line in paper.compare(paper.TABLES[name]):
        assert line.status in (paper.OK, paper.EXPLAINED, paper.NO_FIGURE), line
        assert (line.status == paper.NO_FIGURE) == (line.ours is None or not line.printed), line
        assert line.note or line.status != paper.EXPLAINED, line


@every_table
def test_readings_agree_where_explanations_say_so_and_nowhere_else(name):
    for row in paper.TABLES[name].rows:
        for printed in row.printed:
            for reading in printed.readings:
                macs = is_macs(reading.convention or printed.convention)
                ours = read(row, printed, reading)
                settings = {"is_macs": macs, "rounded_down": reading.rounded_down}
                assert agrees(ours, printed.text, **settings) == reading.fits, (row.label, reading)


EXPLAINED = {
    "2": {"Inception-ResNet-v2 11.75", "SE-Inception-ResNet-v2 11.76"},
    "3": {"ShuffleNet 1x (g=3) 140", "ShuffleNet 1x (g=3) 1.8", "SE-ShuffleNet 142"}
    | {"SE-ShuffleNet 2.4"},
    "overhead": {"MACs 0.26"},
    "10": {"r = 8 30.7"},
    "senet154": {"SE-ResNet-152 file 256"},
}


@every_table
def test_no_other_row_needs_an_explanation(name):
    lines = paper.compare(paper.TABLES[name])
    explained = {f"{n.label} {n.printed}" for n in lines if n.status == paper.EXPLAINED}
    assert explained == EXPLAINED.get(name, set())


def test_the_parameters_of_se_are_those_of_equation_5():
    """2 / 16 * sum over stages of N C^2: 2.5 million."""
    plain, unbiased = RESNET50.cost(), SE_RESNET50.but(bias=False).cost()
    weights = 2 / 16 * (3 * 256**2 + 4 * 512**2 + 6 * 1024**2 + 3 * 2048**2)
    assert parameters(unbiased) - parameters(plain) == weights == 2_514_944


@pytest.mark.parametrize("width", [80, 100])
def test_the_text_fits_the_terminal(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("minise.cli.reproduce.WIDTH", width)
    status, out, _ = call("reproduce 10", capsys)
    assert status == 0
    rows = [line for line in out.splitlines() if line.startswith("r = ")]
    assert len(rows) == 5
    assert all("M" in line and len(line) <= width for line in rows)
    assert "…" not in out
