"""`minise train --guard` writes a dump, and `minise guard` replays it: tables, status, misuse."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from minise import files, nn
from minise.ops import wrap
from minise.ops.jit.vector.simd import AS_LOOPS
from minise.train import SGD, checkpoint, dump, loop, run
from tests.cli.commands import call
from tests.train.regression import SquaredError, pairs
from tests.train.regression import net as regression_net

TINY = (
    "train --data shapes10 --limit 24 --batch-size 4 --model se_resnet8 --reduction 4 --crop 0 "
    "--guard --epochs"
)
EPOCH = f"{TINY} 1 --val 8"
DIVERGES = f"{TINY} 5 --val 0 --lr 1e6 --warmup 0 --accumulate 2 --label-smoothing 0.1"
# an op that overflows for large inputs, as exp(x) does without the subtraction of the maximum
OPS = """import numpy as np
from minise.ops.reference import relu_backward
def relu_forward(x):
    out = np.maximum(x, 0)
    if out.max() > 1:
        out.flat[{index}] = np.inf
    return out, x
"""
SAME = "reproduced with ops {}: the same number in the same array at the same index\n"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("minise.train.setup.SHAPES10_TEST", 20)


def trained(line, capsys):
    """Train until the guard finds a NaN; return the line on standard error."""
    status, _, err = call(f"{line} --name a", capsys)
    assert status == 1
    assert err.count("\n") == 1
    command = re.search(
        r"; runs/a/guard.safetensors has the inputs and parameters \(\d\.\d MB\): minise (.*)\n",
        err,
    )
    assert command.group(1) == "guard runs/a/guard.safetensors"
    return err


def cells(out):
    """Return the rows of the tables as lists of cells."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in re.findall("│.*│", out)]


BACK_ENDS = [
    "reference",
    pytest.param(
        "jit",
        marks=[pytest.mark.slow, pytest.mark.skipif(AS_LOOPS, reason="too slow")],
    ),
]


@pytest.mark.parametrize("ops", BACK_ENDS)
def test_a_run_that_diverges_is_replayed(ops, capsys):
    err = trained(f"{DIVERGES} --ops {ops}", capsys)
    status, out, rest = call("guard runs/a", capsys)
    assert (status, rest) == (1, "")
    assert out.endswith(SAME.format(ops))
    rows = {row[0]: row[1:] for row in cells(out) if len(row) == 3}
    assert {name: before for name, (before, again) in rows.items() if before != again} == {}
    where = re.search(
        r"layer (\S+), (\w+)_(forward|backward|update): its (\w+ .*) has (\d+) of (\d+) numbers "
        r"not finite, first at (\(.*?\)): (\S+);",
        err,
    )
    assert where, err
    layer, op, direction, array, count, size, index, number = where.groups()
    assert rows["layer"][0] == layer
    assert (rows["op"][0], rows["direction"][0], rows["array"][0]) == (op, direction, array)
    assert (rows["index"][0], rows["number"][0]) == (index, number)
    assert rows["not finite"][0] == f"{int(count):,} of {int(size):,}"
    assert re.match(
        rf"se_resnet8 on shapes10, back end {ops}: step \d, epoch \d, lr .*; 8 images", out
    )
    for file in ("runs/a/guard.safetensors", str(Path("runs/a").resolve())):
        assert call(f"guard {file}", capsys) == (1, out, "")


def test_the_ranges_of_the_inputs_are_shown(capsys):
    trained(DIVERGES, capsys)
    rows = [row for row in cells(call("guard runs/a", capsys)[1]) if len(row) == 5]
    written = dump.load("runs/a")
    assert rows
    for name, shape, limits, mean, count in rows:
        low, high = map(float, limits.split(".."))
        assert re.fullmatch(r"[\w\[\] .]+", name)
        assert re.fullmatch(r"(\d+x?)*", shape)
        assert low <= high or np.isnan(low)
        assert 0 <= float(mean) <= 1.05 * max(abs(low), abs(high))
        assert count == "0" or written.nonfinite.role == "input"


def test_another_back_end(capsys):
    """The user's op is at fault: the reference's numbers are finite."""
    Path("my_ops.py").write_text(OPS.format(index="out.argmax()"))
    trained(f"{EPOCH} --ops my_ops.py", capsys)
    status, out, _ = call("guard runs/a", capsys)
    assert (status, dump.load("runs/a").nonfinite.op) == (1, "relu")
    assert out.endswith(SAME.format(Path("my_ops.py").resolve()))
    status, out, err = call("guard runs/a --ops reference", capsys)
    assert (status, err) == (0, "")
    assert out.endswith("not reproduced with ops reference: all numbers are finite\n")
    Path("other.py").write_text(OPS.format(index="-1"))
    status, out, err = call("guard runs/a --ops other.py", capsys)
    assert (status, err) == (1, "")
    assert out.endswith("not finite with ops other.py either, but another number, array or index\n")
    assert call("guard runs/a --ops my_ops.py", capsys)[0] == 1
    Path("my_ops.py").unlink()
    status, out, err = call("guard runs/a", capsys)
    assert (status, out) == (2, "")
    assert re.fullmatch(r"minise: guard: ops is .*my_ops.py, .* not exist: pass .* --ops .*\n", err)
    assert call("guard runs/a --ops reference", capsys)[0] == 0


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_evaluation(split, capsys, monkeypatch):
    """Activations overflow with the running variance."""
    phase = {"val": "validation", "test": "test"}[split]
    honest = loop.evaluate

    def evaluate(net, batches, *arguments):
        count["calls"] += 1
        if count["calls"] == {"val": 1, "test": 2}[split]:
            net.named_state()["bn1.running_var"][...] = 0
            net.named_parameters()["bn1.weight"][...] = 3e38
        return honest(net, batches, *arguments)

    count = {"calls": 0}
    monkeypatch.setattr(loop, "evaluate", evaluate)
    trained(EPOCH, capsys)
    written = dump.load("runs/a")
    assert (written.phase, written.step, written.lr) == (phase, 4, None)
    assert sum(len(x) for x, _ in written.batches) == {"val": 8, "test": 20}[split]
    status, out, _ = call("guard runs/a", capsys)
    assert status == 1
    assert out.endswith(SAME.format("reference"))
    assert f": {phase} after step 4, epoch 1; " in out
    assert "run" in {row[1] for row in cells(out) if row[0] == "direction"}


def test_eval_of_a_guarded_run_is_guarded(capsys):
    assert call(f"{EPOCH} --name a", capsys)[0] == 0
    path = Path("runs/a/best.safetensors")
    saved = checkpoint.load(path)
    saved.arrays["bn1.weight"][...] = 3e38
    saved.arrays["bn1.running_var"][...] = 0
    checkpoint.save(path, saved)
    status, _, err = call("eval runs/a", capsys)
    assert status == 1
    assert re.fullmatch(r"minise: layer conv1, run_conv2d: its result out has .*\n", err)


def test_the_dump_of_a_custom_net_is_for_python(capsys):
    net, batches = regression_net(), pairs()
    wrap.attach(net, wrap.guarded(net.ops))
    batches[0][0][0] = np.nan
    with pytest.raises(wrap.NonFiniteError):
        run(net, SquaredError(), batches, SGD(net), epochs=1, console=Console(quiet=True))
    status, out, err = call("guard runs/run-1", capsys)
    assert (status, out) == (2, "")
    assert re.fullmatch(
        r"minise: guard: runs/run-1 is of a custom net, .*: in Python, call "
        r'train.replay\("runs/run-1", net, objective\)\n',
        err,
    )


def test_misuse_is_one_line(capsys):
    trained(DIVERGES, capsys)
    content = Path("runs/a/guard.safetensors").read_bytes()
    file = files.read(Path("runs/a/guard.safetensors"), files.GUARD)
    Path("empty").mkdir()
    Path("cut").write_bytes(content[:-7])
    Path("changed").write_bytes(content[:-7] + bytes([content[-7] ^ 1]) + content[-6:])
    files.write(Path("newer"), "minise-guard-2", {}, {})
    nn.save(nn.Linear(1, 1), "net")
    for name, changes in (("model", {"model": "se_resnet9"}), ("unknown", {"lrr": 1})):
        texts = file.texts | {"config": file.texts["config"] | changes}
        files.write(Path(name), files.GUARD, file.arrays, texts)
    arrays = {k: array for k, array in file.arrays.items() if k != "net/fc.bias"}
    files.write(Path("lacks"), files.GUARD, arrays, file.texts)
    for line, expected in {
        "guard": "guard: PATH is missing, expected the dump",
        "guard nowhere": "nowhere does not exist, expected a dump",
        "guard empty": r"empty/guard.safetensors does not exist, .*: pass the folder of such a run",
        "guard cut": "cut is truncated or not a safetensors file",
        "guard changed": "changed is altered: .* fails its checksum: copy it again",
        "guard newer": ".*'minise-guard-2', .*, upgrade minise",
        "guard net": "net has format 'minise-net-1', expected 'minise-guard-1': ",
        "guard runs/a/config.json": "runs/a/config.json is truncated or not a safetensors file",
        "guard model": "model 'se_resnet9' is unknown: did you mean",
        "guard unknown": "the config of unknown has lrr, which .*: did you mean lr",
        "guard lacks": "the dump does not fit the net: it lacks fc.bias",
        "guard runs/a --ops jitt": "ops 'jitt' is unknown, .*did you mean jit",
        "guard runs/a --ops gone.py": "ops '.*gone.py' does not exist",
    }.items():
        status, out, err = call(line, capsys)
        assert (line, status, out, err.count("\n")) == (line, 2, "", 1)
        assert re.match(f"minise: {expected}", err), err
    assert Path("runs/a/guard.safetensors").read_bytes() == content


def test_a_checkpoint_is_not_a_dump(capsys):
    assert call(f"{EPOCH.replace('--guard', '')} --name b", capsys)[0] == 0
    status, _, err = call("guard runs/b/last.safetensors", capsys)
    assert (status, err.count("\n")) == (2, 1)
    assert err.endswith("it is a checkpoint, which `minise eval` reads\n")
    shutil.copy("runs/b/last.safetensors", "runs/b/guard.safetensors")
    assert call("guard runs/b", capsys)[0] == 2
