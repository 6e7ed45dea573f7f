"""`minise bench shapes`: texts of shapes, the shapes of a net, tables, JSON and failures."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from minise.bench import peers
from minise.bench.compare import Comparison, Outcome
from minise.bench.peers import Checksum, Disagreement, check_agreements, make
from minise.bench.rounds import Spread, Turn
from minise.bench.settings import ShapesSettings
from minise.bench.shape_tables import PASSES, Shapes, compared, groups_of, ratio_text, result_of
from minise.bench.shapes import BUILT_IN, Shape, shape_of, shapes_of, shapes_of_net
from tests.bench.tables import text_of
from tests.cli.commands import call


def test_texts_of_shapes():
    assert shape_of("3x3/2 g32 256 @56") == Shape(256, 256, (3, 3), (2, 2), (1, 1), 32, (56, 56))
    assert shape_of("1x7 128 -> 160 @ 17") == Shape(128, 160, (1, 7), (1, 1), (0, 3), 1, (17, 17))
    assert shape_of("dw 3x3 60 @35x20") == shape_of("dw 60 @35x20")
    assert shape_of("dw 60 @35x20") == Shape(60, 60, (3, 3), (1, 1), (1, 1), 60, (35, 20))
    assert shape_of("dw 5x5/2 8->16 @9").groups == 8
    assert shape_of("3x3/2x1 p0x1 3->8 @9").padding == (0, 1)


def test_the_text_of_a_shape_gives_the_same_shape():
    nets = (*shapes_of_net("mobilenet"), *shapes_of_net("inception_resnet_v2"))
    for shape in (*shapes_of([BUILT_IN]), *nets, shape_of("dw 5x5/2 8->16 @9x8")):
        assert shape_of(str(shape)) == shape


def test_the_built_in_shapes():
    shapes = shapes_of([BUILT_IN])
    assert len(shapes) == 29
    assert [str(shape) for shape in shapes] == [text.strip() for text in BUILT_IN.split(";")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3x3 0 @8", "shape '3x3 0 @8': channels is 0, expected at least 1"),
        ("3x3 4->0 @8", "filters is 0, expected at least 1"),
        ("3x3 -4 @8", "channels is -4"),
        ("3x3 4 @-8", "size is -8"),
        ("0x3 4 @8", "kernel is 0"),
        ("3x3/0 4 @8", "stride is 0"),
        ("3x3 g0 4 @8", "groups is 0"),
        ("dw 0 @8", "channels is 0"),
        ("3x3 p-1 4 @8", "padding is -1"),
        ("3x3 g5 64 @8", "groups is 5, expected a divisor of channels = 64: use 4 or 8"),
        ("3x3 g4 8->6 @8", "groups is 4, expected a divisor of filters = 6"),
        ("dw 4->6 @8", "groups is 4, expected a divisor of filters = 6"),
        ("4x4 3 @1", "kernel is 4x4, expected at most the padded image, 3x3: enlarge the image"),
        ("3x3 4 8", "channels is set twice, the second time by '8': omit one"),
        ("3x3 4", "size missing, expected KERNEL"),
        ("4", "size and kernel missing"),
        ("dw g2 4 @8", "omit g"),
        ("dw/2 3x3/2 4 @8", "stride is set twice"),
        ("conv 4 @8", "'conv' is not understood, expected KERNEL"),
        ("3x3 4 @8.5", "'@8.5' is not understood"),
        (" ; ", "shapes is empty, expected KERNEL"),
    ],
)
def test_invalid_shapes_are_refused(text, message):
    with pytest.raises(ValueError, match="^bench shapes: ") as error:
        shapes_of([text])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_shapes_of_a_net():
    """ResNet-8: a 3x3 stem, three blocks of two, two projections; each stage halves the image."""
    counts = shapes_of_net("se_resnet8")
    assert counts.total() == 1 + 3 * 2 + 2
    assert counts[shape_of("3x3 3->16 @32")] == 1
    assert counts[shape_of("3x3 16 @32")] == 2
    assert counts[shape_of("1x1/2 16->32 @32")] == 1
    resnet = shapes_of_net("resnet50")
    assert resnet.total() == 53
    assert shape_of("7x7/2 3->64 @224") in resnet
    assert shape_of("7x7/2 3->64 @64") in shapes_of_net("resnet50", 64)


def test_groups_of_settings():
    assert [len(group.counts) for group in groups_of(ShapesSettings())] == [29]
    groups = groups_of(ShapesSettings(net=("resnet8", "resnet8"), shapes=("3x3 4 @8; 3x3 4 @8",)))
    assert [(group.name, group.counts.total()) for group in groups] == [
        ("resnet8", 9),
        ("shapes", 1),
    ]


@pytest.mark.parametrize("text", ["3x3 8->16 @5", "dw/2 8 @6x5", "3x3/2 3->8 @9", "1x1 g3 6 @4"])
def test_implementations_agree_on_each_pass(text):
    names = ["numpy-im2col", "torch", "torch-channels-last"]
    names = [name for name in names if not peers.missing(name)]
    settings = compared(ShapesSettings(ops="reference", threads=1))
    for direction in PASSES:
        workload = shape_of(text).workload(2, direction)
        supporting = [name for name in names if peers.supports(name, workload)]
        checksums = {
            name: peers.checksums_of(make(name, workload, settings)())
            for name in ("minise", *supporting)
        }
        check_agreements(text, checksums, "float32")
        dx = {"dx"} if shape_of(text).C != 3 else set()
        expected = {"result"} if direction == "forward" else {"dweight"} | dx
        assert set(checksums["minise"]) == expected


@pytest.mark.parametrize("gradient", ["dx", "dweight"])
def test_each_gradient_must_agree(gradient):
    right = {"dx": Checksum(0.5, 1.0), "dweight": Checksum(90.0, 100.0)}
    wrong = {**right, gradient: Checksum(right[gradient].value * 1.01, 1.0)}
    check_agreements("3x3", {"minise": right, "torch": right}, "float32")
    with pytest.raises(Disagreement, match=f"3x3, {gradient}: the checksum .* torch"):
        check_agreements("3x3", {"minise": right, "torch": wrong}, "float32")


def measured(settings):
    """Return measurements made up: minise takes 1 ms, PyTorch 2 and 3; backward 0.5 and 0.9."""
    groups = groups_of(settings)
    seconds = {"forward": (1, 2, 3), "backward": (1, 0.5, 0.9)}
    names = ("minise", *compared(settings).against)
    outcomes = {}
    for shape in groups[0].counts:
        for name in PASSES:
            times = dict(zip(names, seconds[name], strict=True))
            a_round = {key: Turn([ms / 1000], 0.0, 0.0) for key, ms in times.items()}
            checksums = {key: {"result": Checksum(1.0, 1.0)} for key in names}
            memory = {key: {"mib": 1, "how": ""} for key in names}
            outcome = Outcome(shape.workload(4, name), memory, checksums, [a_round] * 3)
            outcomes[shape, 4, name] = outcome
    comparison = Comparison(compared(settings), list(outcomes.values()))
    return Shapes(settings, groups, comparison, outcomes)


def test_the_table_and_totals_of_a_net():
    result = result_of(measured(ShapesSettings(net=("resnet8",), batch=(4,), threads=1)))
    (table,) = result.tables
    assert table.rows[2] == ["2 x 3x3 16 @32", "fwd", "1.00", "2.00", " 2.00"]
    assert table.rows[3] == ["2 x 3x3 16 @32", "bwd", "1.00", "0.500", "*0.50"]
    assert table.rows[-2] == ["total of 9", "fwd", "9.00", "18.0", " 2.00"]
    assert table.rows[-1] == ["total of 9", "bwd", "9.00", "4.50", "*0.50"]
    content = json.loads(json.dumps(result.as_json()))
    assert [(total["pass"], total["ratio"]) for total in content["totals"]] == [
        ("forward", 2.0),
        ("backward", 0.5),
    ]
    row = content["rows"][0]
    assert row["best"] == "torch"
    assert row["ratio"] == {"median": 2.0, "lower": 2.0, "upper": 2.0}
    assert set(row["contestants"]) == {"minise", "torch", "torch-channels-last"}


def test_each_row_is_a_line_of_80_columns():
    """Also the longest text of a shape in the nets, long times and ratios above 10."""
    (table,) = result_of(measured(ShapesSettings(net=("resnet8",), batch=(4,), threads=1))).tables
    ratio = ratio_text(Spread(10.5, 10.25, 10.75))
    longest = ["1 x 3x3/2 g64 1024->2048 @14", "bwd", "~1,234", "12,957", ratio]
    table = replace(table, rows=[*table.rows, longest])
    text = text_of(table, 80)
    assert "[quartiles]" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert re.search(r"@14 +bwd +~1,234 +12,957 +10.50 \[10.25, 10.75\]", text)
    assert "…" not in text_of(table, 60)


def test_without_pytorch_only_minise_is_timed(monkeypatch):
    shapes = measured(ShapesSettings(shapes=("3x3 4 @8",), batch=(4,), threads=1))
    for outcome in shapes.outcomes.values():
        outcome.memory = {"minise": outcome.memory["minise"]}
        outcome.checksums = {"minise": outcome.checksums["minise"]}
    shapes.comparison.absent = {"torch": "not installed"}
    result = result_of(shapes)
    rows = [["3x3 4 @8", name, "1.00", "", ""] for name in ("fwd", "bwd")]
    assert result.tables[0].rows == rows
    assert result.rows[0]["ratio"] is None
    assert "torch: not installed" in result.notes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--shapes '3x3 0 @8'", "channels is 0"),
        ("--shapes ''", "shapes is empty"),
        ("--net se_resnet21", "'se_resnet21' is unknown: did you mean se_resnet"),
        ("--net resnet8 --size 0", "size is 0, expected at least 1"),
        ("--size 8", "size is 8, but no net is named: pass --net"),
        ("--batch 0", "batch is 0, expected at least 1"),
        ("--rounds 0", "rounds is 0, expected at least 1"),
        ("--batch", "batch is empty"),
        ("--shapes", "shapes is empty"),
        ("--net", "net is empty"),
    ],
)
def test_misuse_is_one_line_and_status_2(line, message, capsys, monkeypatch):
    monkeypatch.setattr("minise.bench.shape_tables.measure", None)  # nothing is measured
    status, _, err = call(f"bench shapes {line}", capsys)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


def test_a_wrong_implementation_is_refused(capsys, tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minise.bench.compare.COMPILING", ())
    monkeypatch.setattr("minise.bench.compare.missing", lambda name: name.partition("-")[2])
    monkeypatch.setattr("minise.bench.worker.PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("minise.bench.shapes.TURN_SECONDS", 0.0)
    Path("mine.py").write_text(
        "from minise.ops.reference import *\nfrom minise.ops import reference\n\n"
        "def conv2d_backward(dout, cache, **settings):\n"
        "    dx, *rest = reference.conv2d_backward(dout, cache, **settings)\n"
        "    return 1.01 * dx, *rest\n"
    )
    line = "bench shapes --shapes '3x3 4 @6' --batch 2 --rounds 1 --threads 1 --ops mine.py"
    status, _, err = call(line, capsys)
    assert status == 1
    assert "conv2d 3x3, 4 to 4, 6x6, batch 2, backward, dx: the checksum" in err
