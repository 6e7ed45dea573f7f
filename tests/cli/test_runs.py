"""Run folders on the command line: evaluated from any folder, repeated, refused if damaged."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minise.cli import main
from minise.data import load
from minise.nn import SE
from minise.train import TrainConfig, checkpoint, loop, prepare, read_config, train_step
from minise.train.config import to_dict
from tests.cli.commands import call

TINY = "train --data shapes10 --limit 48 --val 16 --model se_resnet8 --batch-size 16 --epochs 1"
PLAIN = TINY.replace("se_resnet8", "resnet8")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINISE_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("minise.train.setup.SHAPES10_TEST", 20)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the run folder of TINY, which tests must not change."""
    out = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minise.train.setup.SHAPES10_TEST", 20)
        assert main([*TINY.split(), "--out", str(out), "--name", "a"]) == 0
    return out / "a"


@pytest.fixture
def run_a(trained):
    """Return runs/a, a copy of the run folder."""
    return Path(shutil.copytree(trained, "runs/a"))


FEW_IMAGES = r"^minise: \w+ has no images of \d+ of 10 classes: "  # small test sets


def done(line, capsys):
    """Return the output of a command that succeeds."""
    status, out, err = call(line, capsys)
    lines = [text for text in err.splitlines() if not re.search(FEW_IMAGES, text)]
    assert (status, lines) == (0, [])
    return out


def refusal(line, capsys, status=2):
    """Return the only line on standard error of a command that fails."""
    actual, _, err = call(line, capsys)
    assert actual == status
    assert err.startswith("minise: ")
    assert err.count("\n") == 1
    return err


# From any folder


def write_photos(folder):
    """Write a data set of two classes: four training images and two test images."""
    images = load("shapes10", "test", n=6).images.transpose(0, 2, 3, 1)
    for k, image in enumerate(images):
        path = folder / ("train" if k < 4 else "test") / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def test_a_run_on_a_folder_is_evaluated_in_any_folder(capsys, monkeypatch, tmp_path):
    write_photos(Path("photos"))
    done("train --data photos --val 1 --model resnet8 --epochs 1 --name a", capsys)
    assert read_config("runs/a").data == str(tmp_path / "photos")
    assert read_config("runs/a").out == tmp_path / "runs"
    expected = done(f"eval {tmp_path}/runs/a", capsys)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert done(f"eval {tmp_path}/runs/a", capsys) == expected
    shutil.move(tmp_path / "photos", tmp_path / "moved")
    message = refusal("eval ../runs/a", capsys)
    assert f"'{tmp_path}/photos'" in message
    assert message.endswith("if the data of the run has moved, pass its folder with --data\n")
    evaluated = done("eval ../runs/a --data ../moved", capsys)
    assert evaluated.replace("../runs", f"{tmp_path}/runs") == expected
    assert "has moved" not in refusal("eval ../runs/a --data ../none", capsys)
    message = refusal("eval ../runs/a --root ../moved", capsys)
    assert message.endswith("is not looked for there: pass a folder of images with --data\n")


def test_home_and_parent_folders(capsys, monkeypatch, tmp_path):
    """~ is the home folder in every path; the run of --data . has the folder's name."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_photos(Path("home/photos"))
    monkeypatch.chdir("home/photos")
    done("train --data . --val 1 --model resnet8 --epochs 1 --out=~/runs", capsys)
    run = tmp_path / "home" / "runs" / "resnet8-photos-1"
    assert (read_config(run).out, read_config(run).data) == (run.parent, str(Path.cwd()))
    assert not Path("~").exists()
    monkeypatch.chdir("train")
    done("train --data .. --val 1 --model resnet8 --epochs 1 --out=~/runs", capsys)
    assert (run.parent / "resnet8-photos-2").is_dir()
    for line in ("train --data ~nobody1/photos", "data ~nobody1/photos"):
        assert "~nobody1/photos" in refusal(line, capsys)
    assert "~nobody1" in refusal("data cifar10 --root ~nobody1", capsys)


def test_normalisation_stands_in_the_config(capsys, tmp_path):
    done(f"{TINY} --std 0.2 0.3 0.4 --name a", capsys)
    config, data = read_config("runs/a"), checkpoint.load(Path("runs/a/last.safetensors")).data
    assert (list(config.mean), list(config.std)) == (data["mean"], data["std"])
    assert data["std"] == [0.2, 0.3, 0.4]


def write_cifar(folder):
    """Write CIFAR-10 files of the official sizes: eight random images each, the others black."""
    folder.mkdir(parents=True)
    records = np.random.default_rng(0).integers(0, 10, (8, 3073), np.uint8)
    for name in (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"):
        with (folder / name).open("wb") as file:
            file.write(records.tobytes())
            file.truncate(10_000 * 3073)


@pytest.mark.slow
def test_the_root_of_cifar_is_in_the_run(capsys, monkeypatch, tmp_path):
    """config.json has the root, from --root or MINISE_DATA."""
    write_cifar(Path("data/cifar-10-batches-bin"))
    monkeypatch.setattr("minise.train.setup.Batches", FewBatches)
    line = "train --limit 8 --val 4 --model resnet8 --epochs 1 --name"
    done(f"{line} a --root data", capsys)
    monkeypatch.setenv("MINISE_DATA", "data")
    done(f"{line} b", capsys)
    monkeypatch.delenv("MINISE_DATA")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    for name in "ab":
        assert read_config(f"../runs/{name}").root == tmp_path / "data"
        assert "test accuracy" in done(f"eval ../runs/{name}", capsys)
    shutil.move("../data", "../moved")
    message = refusal("eval ../runs/a", capsys)
    assert message.endswith("if the data of the run has moved, pass its folder with --root\n")
    assert "test accuracy" in done("eval ../runs/a --root ../moved", capsys)


@pytest.mark.usefixtures("run_a")
def test_a_run_its_best_and_its_last_checkpoint(capsys, tmp_path):
    Image.fromarray(load("shapes10", "test", n=1).images[0].transpose(1, 2, 0)).save("a.png")
    for verb in ("eval", "predict", "summary"):
        end = " a.png" if verb == "predict" else ""
        for run in ("", "/best.safetensors", "/last.safetensors"):
            assert done(f"{verb} {tmp_path}/runs/a{run}{end}", capsys)


def test_summary_of_a_run_has_the_settings_of_its_net(capsys):
    done(f"{TINY} --reduction 2 --shortcut A --name a", capsys)
    assert (
        done("summary runs/a", capsys).splitlines()[1:]
        == (done("summary se_resnet8 --reduction 2 --shortcut A", capsys).splitlines()[1:])
    )
    Path("empty").mkdir()
    assert "last.safetensors does not exist" in refusal("summary empty", capsys)


class FewBatches:
    """Batches of the first eight images of a data set."""

    def __new__(cls, dataset, size, **settings):
        from minise.data import Batches

        return Batches(dataset.take(slice(8)), size, **settings)


# Repeated


def arrays_and_metrics(folder):
    saved = checkpoint.load(folder / "last.safetensors")
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    times = {"seconds", "images_per_second", "training_seconds"}
    return {**saved.arrays, **{f"v/{k}": v for k, v in saved.velocity.items()}}, [
        {name: value for name, value in record.items() if name not in times} for record in records
    ]


def test_a_repeated_run_gives_the_same_bits(capsys, monkeypatch, tmp_path):
    """Repeated from its folder or its config.json, in another folder, without default settings."""
    more = (
        "--reduction 4 --site pre --cutout 4 --accumulate 2 --batch-size 8 --seed 3 --log-every 1"
    )
    line = (
        f"{TINY} --limit 24 --val 8 --epochs 2 --label-smoothing 0.1 --no-nesterov {more} --name a"
    )
    done(line, capsys)
    first = read_config("runs/a")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    expected, lines = arrays_and_metrics(tmp_path / "runs" / "a")
    for k, run in enumerate(("../runs/a/config.json", "../runs/a")):
        out = done(f"train --config {run}", capsys)
        folder = Path(f"runs/se_resnet8-shapes10-{k + 1}")
        assert f"run folder: {folder}" in out
        arrays, repeated = arrays_and_metrics(folder)
        assert repeated == lines
        assert arrays.keys() == expected.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)
        again = read_config(folder)
        assert (again.out, again.name) == (tmp_path / "elsewhere" / "runs", None)
        assert {**vars(again), "out": 0, "name": 0} == {**vars(first), "out": 0, "name": 0}


def test_options_beside_a_config_override_it(capsys):
    a = TrainConfig(data="shapes10", limit=24, val=8, epochs=1, se=SE(reduction=4), name="a")
    Path("a.json").write_text(json.dumps({"config": to_dict(a)}))
    done("train --config=a.json --seed 7 --no-flip --rate 0.1 --model se_resnet8 --name b", capsys)
    b = read_config("runs/b")
    assert (b.seed, b.flip, b.lr, b.name, b.se) == (7, False, 0.1, "b", SE(reduction=4))
    assert (b.limit, b.val) == (24, 8)
    done("train --config a.json --model resnet8 --name plain", capsys)
    plain = read_config("runs/plain")
    assert (plain.model, plain.se, plain.epochs) == ("resnet8", SE(), a.epochs)
    message = refusal("train --config a.json --model resnet8 --site pre", capsys)
    assert "model resnet8 has no SE blocks, but site is set: use se_resnet8" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speed": 3}, "has speed, which this version of minise does not know"),
        ({"epochs": "many"}, "epochs is 'many', expected an integer"),
        ({"lr": -1}, "lr is -1, expected a number from 0 to 1e6"),
        ({"model": "resnet9"}, "model 'resnet9' is unknown: did you mean resnet8"),
    ],
)
def test_a_changed_config_is_refused(change, message, capsys):
    content = {"config": {"data": "shapes10", **change}}
    Path("config.json").write_text(json.dumps(content))
    assert message in refusal("train --config config.json", capsys)
    assert not Path("runs").exists()


def test_config_files_that_are_refused(capsys):
    assert "none does not exist, expected the config.json" in refusal("train --config none", capsys)
    Path("config.json").write_text('{"config": {}, "versions": {"minise": "9.9"}}')
    assert "versions.minise is '9.9'" in refusal("train --config config.json", capsys)
    message = refusal("train --config config.json --recipe quick", capsys)
    assert "--recipe quick and --config config.json both set all defaults" in message
    assert call("train --config", capsys)[0] == 2


# Recipes and their plain twins


def test_a_recipe_trains_the_plain_twin(capsys):
    line = PLAIN.replace("train", "train --recipe quick --ops reference --name a")
    assert "Recipe: quick." in done(line, capsys)
    config = read_config("runs/a")
    assert (config.recipe, config.model, config.se) == ("quick", "resnet8", SE())
    assert "test accuracy" in done("eval runs/a", capsys)


@pytest.mark.parametrize("option", ["--reduction 4", "--reduction=16", "--no-bias", "--bias"])
@pytest.mark.parametrize("recipe", ["", " --recipe quick"])
def test_an_option_that_the_model_does_not_have_is_refused(option, recipe, capsys):
    """Also if its value is the recipe's or the default."""
    name = option.removeprefix("--").removeprefix("no-").split("=")[0].split(" ")[0]
    message = refusal(f"{PLAIN}{recipe} {option}", capsys)
    assert f"model resnet8 has no SE blocks, but {name} is set: use se_resnet8" in message
    assert not Path("runs").exists()


def test_a_shortcut_option_that_the_model_does_not_have_is_refused(capsys):
    line = TINY.replace("se_resnet8", "wrn_16_8")
    assert "model wrn_16_8 has no setting shortcut" in refusal(f"{line} --shortcut B", capsys)


def test_a_recipe_in_python_trains_the_plain_twin(tmp_path):
    """A setting that differs from the recipe is the user's choice, and is refused."""
    from dataclasses import replace

    from minise.train import RECIPES

    small = dict(data="shapes10", limit=16, ops="reference", out=tmp_path, model="resnet8")
    training = prepare(replace(RECIPES["quick"], **small))
    assert training.settings["se"] == vars(SE())
    for config in (
        replace(RECIPES["quick"], se=SE(reduction=8), **small),
        TrainConfig(se=SE(reduction=4), val=0, **small),
    ):
        with pytest.raises(TypeError, match="resnet8 has no SE blocks, but reduction is set"):
            prepare(config)


# Damaged nets, and runs that end in NaN or at chance level


def spoil(path, name, value=np.nan):
    """Write one value into an array of a checkpoint."""
    saved = checkpoint.load(path)
    saved.arrays[name].flat[0] = value
    checkpoint.save(path, saved)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("fc.weight", np.nan, "layer fc, parameter weight: 1 of 640 numbers are not finite"),
        ("bn1.running_var", np.inf, "layer bn1, running statistic running_var: 1 of 16 numbers"),
    ],
)
def test_a_net_with_nan_is_refused_with_the_array(name, value, message, capsys, run_a):
    Image.fromarray(load("shapes10", "test", n=1).images[0].transpose(1, 2, 0)).save("a.png")
    spoil(run_a / "best.safetensors", name, value)
    for line in ("eval runs/a", "predict runs/a a.png", "summary runs/a"):
        error = refusal(line, capsys, status=1)
        assert re.search(r"runs/a\S* is not usable: ", error)
        assert message in error
    done("eval runs/a --checkpoint last", capsys)


def test_a_finite_net_that_overflows_fails(capsys, run_a):
    for k, image in enumerate(load("shapes10", "test", n=8).images):
        Image.fromarray(image.transpose(1, 2, 0)).save(f"{k}.png")
    spoil(run_a / "best.safetensors", "bn1.weight", np.finfo(np.float32).max)
    status, out, err = call("eval runs/a", capsys)
    assert status == 1
    assert "test accuracy" in out
    assert re.match(r"minise: the loss is nan, although every parameter .* is finite: .*\n$", err)
    error = refusal(f"predict runs/a {' '.join(f'{k}.png' for k in range(8))}", capsys, status=1)
    assert re.match(r"minise: the probabilities of \d.png are not finite, although every", error)


def test_training_that_ends_in_nan_prints_one_line_and_has_status_1(capsys, monkeypatch):
    """Only the velocity is NaN at first; the update makes the parameter NaN."""

    def planted(net, objective, optimiser, *arguments):
        optimiser.velocity["layer1.0.conv1.weight"][0] = np.nan
        return train_step(net, objective, optimiser, *arguments)

    monkeypatch.setattr("minise.train.loop.train_step", planted)
    line = f"{TINY} --limit 32"  # one step
    error = refusal(f"{line} --name a", capsys, status=1)
    assert "layer layer1.0.conv1, parameter weight: " in error
    assert "after step 1 of 1: lower the highest learning rate (0.2)" in error
    assert error.endswith("; runs/a/last.safetensors has the state after step 0\n")
    error = refusal(f"{line} --epochs 2 --guard --name b", capsys, status=1)
    assert "layer layer1.0.conv1, sgd_update: its input velocity of weight has " in error
    for run in "ab":
        arrays = checkpoint.load(Path(f"runs/{run}/last.safetensors")).arrays
        assert all(np.isfinite(array).all() for array in arrays.values())


def test_a_run_at_chance_level_reports_it(capsys):
    out = done(f"{TINY} --lr 0", capsys)
    (line,) = [line for line in out.splitlines() if "chance level" in line]
    assert line.endswith("train for more epochs, because the run has only 2 steps")


def test_a_message_keeps_the_spaces_of_a_name(capsys):
    status, _, err = call("resume 'my  run'", capsys)
    assert (status, err.count("\n")) == (2, 1)
    assert "my  run does not exist" in err


def test_the_best_checkpoint_is_damaged_before_the_test(capsys, monkeypatch, tmp_path):
    honest = loop.Loop.run_test

    def damaged(self):
        self.training.folder.best.write_bytes(b"x")
        return honest(self)

    monkeypatch.setattr(loop.Loop, "run_test", damaged)
    status, _, err = call(f"{TINY} --out {tmp_path} --name b", capsys)
    assert (status, err.count("\n")) == (1, 1)
    assert "best.safetensors is truncated" in err
    assert "last.safetensors has the state after step 2" in err
