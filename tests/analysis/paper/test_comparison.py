"""A number agrees or is explained: the rule, and that a difference without a reason is noticed."""

import json

import pytest

from minise.analysis import conventions, paper
from minise.analysis.conventions import macs_of_layers, parameters
from minise.analysis.paper.comparison import REL_TOL_MACS, agrees
from minise.analysis.paper.declare import Net, PaperTable, Printed, Reading, Row
from tests.cli.commands import call

RESNET20 = Net("resnet20", {"shortcut": "A"}, 32)  # 269,722 parameters, 40.551 million MACs


@pytest.mark.parametrize(
    ("ours", "text", "expected"),
    [
        (0.2697, "0.27", True),
        (0.2651, "0.27", True),
        (0.2649, "0.27", False),
        (45.752, "45.7", False),
        (9.9, "10", True),
        (9.4, "10", False),
    ],
)
def test_a_number_agrees_if_it_rounds_to_the_printed_digits(ours, text, expected):
    assert agrees(ours, text) is expected


def test_macs_agree_within_a_small_share_too():
    assert agrees(2.0344, "2.04", is_macs=True)
    assert not agrees(2.0344, "2.04")
    assert not agrees(2.04 * (1 - 1.01 * REL_TOL_MACS), "2.04", is_macs=True)
    assert agrees(1.866, "1.8", rounded_down=True)
    assert not agrees(1.9, "1.8", rounded_down=True)
    assert not agrees(1.79, "1.8", rounded_down=True)


def table(*printed, net=RESNET20, **settings):
    return PaperTable("a table", (Row("a net", net, "8.75", printed, **settings),))


@pytest.mark.parametrize(
    ("printed", "status"),
    [
        (Printed(parameters, "0.27"), paper.OK),
        (Printed(parameters, "0.27", because="a remark"), paper.OK),
        (Printed(parameters, "0.28"), paper.WRONG),
        (Printed(parameters, "0.28", because="a reason"), paper.EXPLAINED),
        (Printed(parameters), paper.NO_FIGURE),
        (Printed(macs_of_layers, "40.6"), paper.OK),
        (Printed(macs_of_layers, "40.50"), paper.OK),
        (Printed(macs_of_layers, "41"), paper.OK),
        (Printed(macs_of_layers, "41.0"), paper.WRONG),
    ],
)
def test_the_status_of_a_row(printed, status):
    (line,) = paper.compare(table(printed))
    assert line.status == status
    if printed.text:
        assert line.difference == line.ours - float(printed.text)
        assert line.relative == line.difference / float(printed.text)


def test_an_increase_is_counted_over_another_net():
    printed = Printed(parameters, "2265", ""), Printed(parameters, "0.84", "%")
    net = Net("resnet20", {"shortcut": "B"}, 32)
    with_se = Net("se_resnet20", {"shortcut": "B", "bias": False}, 32)
    count, share = paper.compare(table(*printed, net=with_se, base=net))
    assert count.ours == 2 / 16 * 3 * (16**2 + 32**2 + 64**2)  # the paper's equation 5
    assert share.ours == pytest.approx(100 * count.ours / 272_474)


def test_an_explanation_shows_its_other_readings():
    without = Reading("without them", net=Net("resnet20", {"shortcut": "A", "num_classes": 1}, 32))
    down = Reading("rounded down", rounded_down=True)
    (line,) = paper.compare(table(Printed(parameters, "0.28", "M", "ten classes", (without, down))))
    assert line.note == "ten classes; without them: 0.2691 M, rounded down: 0.26 M"


def test_a_net_that_minise_lacks_has_no_number():
    (line,) = paper.compare(table(net=None))
    assert (line.ours, line.difference, line.status) == (None, None, paper.NO_FIGURE)


def test_every_convention_says_what_it_counts():
    names = [n for n, f in vars(conventions).items() if callable(f) and n.islower()]
    assert len(names) == 7
    assert all(getattr(conventions, name).__doc__ for name in names)


def test_a_difference_without_a_reason_fails(monkeypatch, capsys):
    wrong = {"99": table(Printed(parameters, "0.28"))}
    monkeypatch.setattr("minise.analysis.paper.tables.TABLES", wrong)
    status, out, err = call("reproduce 99", capsys)
    assert status == 1
    assert paper.WRONG in out
    assert err == "minise: reproduce: differences without an explanation: a net (0.28 M)\n"


def test_the_tables_are_listed(capsys):
    status, out, _ = call("reproduce", capsys)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == list(paper.TABLES)


def test_an_unknown_table_is_refused(capsys):
    status, out, err = call("reproduce cifar10", capsys)
    assert (status, out) == (2, "")
    assert err.startswith("minise: reproduce: table is 'cifar10', expected one of 2, 3, overhead, ")
    assert err.endswith(": did you mean cifar?\n")


def test_the_formats_have_the_same_rows(monkeypatch, capsys):
    shown = {"99": table(Printed(parameters, "0.27", because="a | remark"), Printed(parameters))}
    monkeypatch.setattr("minise.analysis.paper.tables.TABLES", shown)
    status, out, _ = call("reproduce 99 --format json", capsys)
    assert status == 0
    first, second = json.loads(out)["99"]["rows"]
    assert (first["printed"], first["ours"], first["status"]) == ("0.27", 0.269722, "ok")
    assert (second["printed"], second["difference"]) == ("", None)
    _, out, _ = call("reproduce 99 --format markdown", capsys)
    assert out.startswith("## a table\n")
    assert "| a net | 8.75 | 0.27 M | 0.2697 M | -0.0003 | -0.10 | a | ok 1 |" in out
    assert "- 1: A | remark." in out
    _, out, _ = call("reproduce 99", capsys)
    assert "a: Learned parameters" in out
    assert "not trained here" in out
