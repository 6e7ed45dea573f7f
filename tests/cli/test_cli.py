"""The command line as a user meets it: help, examples, misuse, interruption."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from minise import __version__, models, nn
from minise.cli.verbs import FIRST, VERBS
from minise.data import load
from minise.train import RECIPES, SGD, SoftmaxCrossEntropy, run
from minise.train.config import read_config
from tests.cli.commands import call, example, helped

TINY = "train --data shapes10 --limit 96 --val 32 --model se_resnet8 --batch-size 32"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINISE_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("minise.train.setup.SHAPES10_TEST", 40)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_its_own_example(verb, capsys):
    assert example(verb, capsys).startswith(verb)


def test_no_verb_shows_all_verbs_in_a_line_each(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = call("", capsys)
    assert status == 0
    assert call("--help", capsys) == (0, out, "")
    listed = re.findall(r"^ (\w+) +[A-Z].*\. *$", out, re.MULTILINE)
    assert listed == list(VERBS)
    assert listed[:6] == FIRST == ["quickstart", "train", "predict", "check", "walk", "summary"]


def test_the_version(capsys):
    assert call("--version", capsys) == (0, f"minise {__version__}\n", "")


@pytest.mark.parametrize("verb", ["trian", "Train"])
def test_an_unknown_verb_is_told_with_the_nearest_one(verb, capsys):
    status, _, err = call(verb, capsys)
    assert status == 2
    assert err.startswith(f"minise: verb is '{verb}', expected one of quickstart, ")
    assert err.endswith(": did you mean train?\n")


def test_a_misspelt_version_and_subject_are_told(capsys):
    assert call("--verison", capsys)[2].endswith(": did you mean --version?\n")
    assert call("walk squeeze", capsys)[2].rstrip().endswith("did you mean squeeze_excite?")


def test_more_validation_images_than_there_are(capsys):
    status, _, err = call("train --data shapes10 --limit 50", capsys)
    assert status == 2
    assert "train: val is 5000, expected at most 49: " in err
    assert "pass a smaller --val" in err


def test_a_verb_unlike_any_other_is_told_where_the_verbs_are_described(capsys):
    assert call("xyzzy", capsys)[2].endswith("doctor: minise --help describes them\n")


def test_the_examples_run(capsys):
    """All but those of quickstart and train, which train; eval and predict read a smaller run."""
    assert call(f"{TINY} --epochs 1", capsys)[0] == 0
    Image.fromarray(load("shapes10", "test", n=1).images[0].transpose(1, 2, 0)).save("photo.png")
    for verb, expected in {
        "eval": r"test accuracy \d+\.\d\d%, loss .*best.safetensors",
        "data": r"2,000 images of 3 x 32 x 32, uint8; 10 classes",
        "summary": "278,206 parameters, 8,484 of them in SE blocks",
        "check": "1 ops of reference are right in 50 cases",
        "walk": r"se.html: 19 steps, 1\d\d kB",
        "predict": r"photo.png +│ \w+ +│ +\d+\.\d%",
        "doctor": r"(?s)BLAS.*jit convolutions .*Winograd",
    }.items():
        status, out, err = call(example(verb, capsys), capsys)
        assert (status, err) == (0, "")
        assert re.search(expected, out)


@pytest.mark.long
def test_the_example_of_train_learns(capsys):
    status, out, _ = call(example("train", capsys), capsys)
    assert status == 0
    accuracy, folder = re.search(r"test accuracy (\S+)% .*\nrun folder: (\S+)\n", out).groups()
    assert float(accuracy) > 95  # 99.3 with seed 0
    assert folder == "runs/se_resnet8-shapes10-1"


def test_eval_shows_what_train_showed(capsys):
    _, trained, _ = call(f"{TINY} --epochs 1", capsys)
    _, evaluated, _ = call("eval runs/se_resnet8-shapes10-1", capsys)
    accuracy = re.search(r"test accuracy (\S+%)", trained).group(1)
    assert f"test accuracy {accuracy}" in evaluated
    assert evaluated.count("\n│") == 10  # a row each class
    _, last, _ = call("eval runs/se_resnet8-shapes10-1 --checkpoint last --split train", capsys)
    assert "train accuracy" in last
    for name in ("best", "last"):
        _, of_folder, _ = call(f"eval runs/se_resnet8-shapes10-1 --checkpoint {name}", capsys)
        file = f"eval runs/se_resnet8-shapes10-1/{name}.safetensors"
        assert call(file, capsys) == (0, of_folder, "")


def test_eval_shows_what_a_loaded_net_predicts(capsys):
    call(f"{TINY} --epochs 1", capsys)
    _, shown, _ = call("eval runs/se_resnet8-shapes10-1", capsys)
    images = load("shapes10", "test", n=40)
    odds = models.load("runs/se_resnet8-shapes10-1").predict(images.images)
    accuracy = (odds.argmax(axis=1) == images.labels).mean()
    assert f"test accuracy {accuracy:.2%}, loss" in shown


def test_eval_of_a_net_that_has_no_name_says_how_to_load_it(capsys):
    layer = nn.Chain(nn.GlobalAvgPool2d(), nn.Linear(3, 2))
    batches = [(np.ones((2, 3, 4, 4), np.float32), np.array([0, 1]))]
    run(layer, SoftmaxCrossEntropy(), batches, SGD(layer), epochs=1, console=Console(quiet=True))
    status, _, err = call("eval runs/run-1", capsys)
    assert status == 2
    assert re.fullmatch(
        r"minise: .*last.safetensors holds a custom net.* nn.load\(net, .*\)\n", err
    )


def test_accumulated_batches(capsys):
    """64 images in batches of 8, of which four make a step: two steps."""
    line = f"{TINY} --epochs 1 --batch-size 8 --log-every 1 --name"
    for name, accumulate, steps in (("plain", 1, 8), ("summed", 4, 2)):
        status, _, err = call(f"{line} {name} --accumulate {accumulate}", capsys)
        assert (status, err) == (0, "")
        records = map(json.loads, Path("runs", name, "metrics.jsonl").read_text().splitlines())
        taken = [record["step"] for record in records if record["kind"] == "step"]
        assert taken == list(range(1, steps + 1))
        assert read_config(Path("runs", name, "config.json")).accumulate == accumulate
    status, _, err = call(f"{line} none --accumulate 0", capsys)
    assert status == 2
    assert "accumulate is 0, expected at least 1" in err


def test_options_beside_a_recipe_override_it(capsys):
    """Also where it is the default without a recipe, as reference is."""
    line = f"{TINY} --val 0 --epochs 1 --ops reference --recipe"
    for command in (f"{line} quick", f"{line}=quick"):
        status, out, err = call(command, capsys)
        assert (status, err) == (0, "")
        assert "96 images to train, 0 to validate" in out
        assert "Back end: reference. Recipe: quick." in out
        assert re.search(r"\(last epoch\), loss .*; trained in \d+ s, data included, at", out)
    config = read_config(Path("runs/se_resnet8-shapes10-2/config.json"))
    changed = dict(data="shapes10", limit=96, model="se_resnet8", batch_size=32, epochs=1)
    assert config == replace(
        RECIPES["quick"], ops="reference", out=Path("runs").absolute(), **changed
    )


def test_the_help_of_a_recipe_shows_its_settings(capsys):
    for verb, ops, recipe in (
        ("train", "reference", "None"),
        ("train --recipe quick", "jit", "quick"),
    ):
        words = " ".join(helped(verb, capsys).replace("│", " ").split())
        assert f"or cuda (CuPy, on an NVIDIA GPU). (default: {ops})" in words
        assert f"other options override them. (default: {recipe})" in words
        assert "minise train --recipe quick --help shows them" in words


def test_summary_counts(capsys):
    _, out, _ = call("summary resnet20 --shortcut A", capsys)
    assert "269,722 parameters, 0 of them in SE blocks" in out
    assert "40.551 million MACs" in out
    _, out, _ = call("summary all", capsys)
    assert {"resnet20", "se_resnet110", "se_wrn_16_8"} <= set(out.split())


def test_data_of_all_kinds(capsys):
    status, out, _ = call("data", capsys)
    assert status == 0
    assert all(name in out for name in ("cifar10", "cifar100", "shapes10"))
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            Path(part, name).mkdir(parents=True)
            Image.new("RGB", (40, 30), (9, 9, 9)).save(Path(part, name, "one.png"))
    status, out, _ = call("data . --png sheet.png", capsys)
    assert status == 0
    assert "2 images of 3 x 32 x 32" in out
    assert np.asarray(Image.open("sheet.png")).ndim == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train --model se_resnet21 --data shapes10", "'se_resnet21' is unknown: did you mean"),
        ("train --data cifar10", "MINISE_DATA"),
        ("train --data cifar10 --root nowhere", "nowhere"),
        ("train --data shapes10 --limit 50 --val 50", "50"),
        ("train --data shapes10 --ops jax", "ops 'jax' is unknown, expected one of reference"),
        ("train --data shapes10 --limit 50 --val 9 --algorithm direct", "has one algorithm only"),
        ("train --data shapes10 --limit 50 --val 0 --out /proc/none", "cannot be written"),
        ("summary se_resnet", "'se_resnet' is unknown: did you mean se_resnet"),
        ("summary resnet20 --reduction 4", "no SE blocks, but reduction is set: use se_resnet20"),
        (
            "summary preact_resnet110 --shortcut A",
            "no setting shortcut, expected any of: width",
        ),
        ("train --data shapes10 --threads 4000", "threads is 4000, expected at most"),
        ("train --data shapes10 --threads 4000 --ops jit", "threads is 4000, expected at most"),
        ("check --ops no_such_module", "ops 'no_such_module' is unknown"),
        ("check --ops none.py", "'none.py' does not exist, expected a Python file with ops"),
        ("check --ops .", "ops '.' is a folder, expected a Python file"),
        ("check --ops refrence", "did you mean reference?"),
        ("check --op conv3d", "op is 'conv3d', expected one of add, "),
        ("eval runs/none", "does not exist, expected a checkpoint"),
        ("data cifar11", "cifar11"),
        ("data shapes10 --png no/folder/sheet.png", "no/folder"),
    ],
)
def test_misuse_is_one_line_and_status_2(line, message, capsys):
    status, _, err = call(line, capsys)
    assert status == 2
    assert err.startswith("minise: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize("line", ["train --recipe quik", "train --recipe"])
def test_recipes_that_the_parser_refuses(line, capsys):
    status, out, err = call(line, capsys)
    assert status == 2
    assert "--recipe" in out + err
    assert ("expected one of quick: did you mean quick?" in err) == ("quik" in line)
    assert out == ""


@pytest.mark.parametrize("line", ["trian", "train --epochs many", "train --epochs 0", "eval"])
def test_misuse_that_the_parser_sees(line, capsys):
    status, out, err = call(line, capsys)
    assert status == 2
    assert "Traceback" not in out + err


def test_check_of_a_file_of_ones_own(capsys):
    Path("mine.py").write_text(
        "from minise.ops.reference import relu_branches, relu_forward\n"
        "def relu_backward(dout, cache):\n"
        "    return (dout,)\n"
    )
    status, out, err = call("check --ops mine.py --cases 20", capsys)
    assert status == 1
    assert err == "minise: 1 of 1 ops of mine.py are wrong: relu, mine.py:2\n"
    assert "smallest case: sizes" in out
    assert "the ops that mine.py does not define are the reference's" in out


@pytest.mark.parametrize("flag", ["--lr 1000000", "--rate=1000000", "--learning-rate 1000000"])
def test_divergence_is_one_line_and_status_1(capsys, flag):
    """--rate is an old name of --lr."""
    status, _, err = call(f"{TINY} {flag} --warmup 0 --epochs 9", capsys)
    assert status == 1
    assert re.match(r"minise: the loss is (nan|inf) at step \d+ .*\n$", err)


def test_ctrl_c_writes_a_checkpoint_and_exits_130(tmp_path):
    line = TINY.replace("--limit 96", "--limit 4000")
    command = [sys.executable, "-m", "minise", *line.split(), "--epochs", "1", "--log-every", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "runs" / "se_resnet8-shapes10-1" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    step = r"minise: train: interrupted after step \d+ of 124"
    assert re.match(f"{step}, saved in .*; to continue: minise resume ", err)
    assert "Traceback" not in err
    assert (metrics.parent / "last.safetensors").exists()


def test_predict_shows_what_a_loaded_net_predicts(capsys):
    call(f"{TINY} --epochs 1", capsys)
    images = load("shapes10", "test", n=2).images
    for name, image in zip("ab", images, strict=True):
        Image.fromarray(image.transpose(1, 2, 0)).save(f"{name}.png")
    status, shown, err = call("predict runs/se_resnet8-shapes10-1 a.png b.png --top 2", capsys)
    assert (status, err) == (0, "")
    rows = re.findall(r"│ (?:(\S+\.png)| +) +│ (\w+) +│ +(\S+)% │", shown)
    trained = models.load("runs/se_resnet8-shapes10-1")
    for k, probabilities in enumerate(trained.predict(images)):
        for rank, label in enumerate(np.argsort(-probabilities)[:2]):
            name = f"{'ab'[k]}.png" if rank == 0 else ""
            percent = f"{probabilities[label]:.1%}".removesuffix("%")
            assert rows[2 * k + rank] == (name, trained.classes[label], percent)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("runs/none a.png", "runs/none"),
        ("runs/se_resnet8-shapes10-1 none.png", "none.png does not exist, expected an image file"),
        ("runs/se_resnet8-shapes10-1 note.txt", r"note.txt cannot be read .*: replace or remove"),
        ("runs/se_resnet8-shapes10-1 a.png --top 0", "top is 0, expected"),
        ("runs/se_resnet8-shapes10-1 a.png --ops mumpy", "ops 'mumpy' is unknown"),
    ],
)
def test_what_predict_refuses(line, message, capsys):
    call(f"{TINY} --epochs 1", capsys)
    Image.new("RGB", (40, 30)).save("a.png")
    Path("note.txt").write_text("no image")
    status, out, err = call(f"predict {line}", capsys)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert re.search(message, err)
