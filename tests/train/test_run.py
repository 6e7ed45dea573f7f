"""`train.run`: a custom net, objective and batches; the files of a run, and messages."""

import json
from functools import partial

import numpy as np
import pytest

from minise import models, nn
from minise.cli.evaluate import evaluate_run
from minise.cli.words import Failure
from minise.files import RUN_FILES
from minise.nn import files
from minise.train import SGD, Confusion, SoftmaxCrossEntropy, checkpoint, evaluate, loop, run
from minise.train.schedule import lr_at
from tests.train.regression import SquaredError, net, pairs, quiet


def lines(folder, kind):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def trained(tmp_path, console=None, **settings):
    layer = settings.pop("net", None) or net()
    defaults = dict(epochs=3, lr=0.05, val=pairs(2, 1), test=pairs(2, 2), out=tmp_path)
    settings = {**defaults, **settings}
    batches = settings.pop("batches", pairs())
    result = run(layer, SquaredError(), batches, SGD(layer), console=console or quiet(), **settings)
    return layer, result


def test_files_of_a_run(tmp_path):
    console = quiet()
    layer, result = trained(tmp_path, console, log_every=2)
    assert result.folder == tmp_path / "run-1"
    written = {path.name for path in result.folder.iterdir()}
    assert written == {"config.json", "metrics.jsonl", *RUN_FILES}
    config = json.loads((result.folder / "config.json").read_text())["config"]
    assert config["epochs"] == 3
    assert config["lr"] == 0.05
    assert config["net"] == repr(layer)
    epochs = lines(result.folder, "epoch")
    assert [(record["epoch"], record["step"]) for record in epochs] == [(1, 3), (2, 6), (3, 9)]
    assert {"loss", "error", "val_loss", "val_error", "lr", "seconds"} <= epochs[0].keys()
    assert [record["step"] for record in lines(result.folder, "step")] == [2, 4, 6, 8]
    (test,) = lines(result.folder, "test")
    assert {name: test[name] for name in ("loss", "error")} == result.test
    assert result.confusion is None
    shown = console.file.getvalue().split("\n")
    shown = [line for line in shown if line]  # the oldest rich ends bars with an empty line
    assert len(shown) == 3
    for k, (line, record) in enumerate(zip(shown, epochs, strict=True)):
        losses = f"epoch {k + 1}/3  loss {record['loss']:.4f}  val loss {record['val_loss']:.4f}  "
        assert line.startswith(losses)
    assert trained(tmp_path, epochs=1)[1].folder.name == "run-2"
    assert trained(tmp_path, epochs=1, name="mine")[1].folder == tmp_path / "mine"


def test_it_learns(tmp_path):
    _, result = trained(tmp_path, epochs=12, batches=pairs(8))
    losses = [record["loss"] for record in lines(result.folder, "epoch")]
    assert losses[-1] < losses[0] / 4
    assert result.test["loss"] < losses[0] / 4


def test_a_run_is_bit_identical_to_its_steps_by_hand(tmp_path):
    """Two epochs of three batches at a constant rate, by hand."""
    layer, _ = trained(tmp_path, epochs=2, schedule="steps", val=None, test=None)
    again, result = trained(tmp_path, epochs=2, schedule="steps", val=None, test=None)
    mine, objective = net(), SquaredError()
    optimiser = SGD(mine)
    for k, (x, targets) in enumerate(pairs() * 2):
        out, cache = mine.forward(x, training=True)
        _, loss_cache = objective.forward(out, targets)
        _, grads = mine.backward(objective.backward(loss_cache), cache)
        rate = 0.05 * (1 if k < 3 else 0.1 if k < 4.5 else 0.01)  # tenths at 3 and 4.5 of 6 steps
        optimiser.step(grads, lr_at(k, 6, peak=0.05, schedule="steps", warmup=0))
        assert lr_at(k, 6, peak=0.05, schedule="steps", warmup=0) == pytest.approx(rate)
    for name, array in files.arrays_of(mine).items():
        np.testing.assert_array_equal(files.arrays_of(layer)[name], array)
        np.testing.assert_array_equal(files.arrays_of(again)[name], array)
    saved = checkpoint.load(result.folder / "last.safetensors")
    for name, array in optimiser.velocity.items():
        np.testing.assert_array_equal(saved.velocity[name], array)
    assert result.test == {}
    assert not (result.folder / "best.safetensors").exists()


@pytest.mark.parametrize(
    ("losses", "best"),
    [([3.0, 1.0, 2.0], 2), ([1.0, 1.0, 2.0], 1), ([np.nan, 2.0, 3.0], 2), ([1.0, -np.inf, 0], 3)],
    ids=str,
)
def test_the_best_epoch_has_the_lowest_loss(tmp_path, monkeypatch, losses, best):
    script, honest, evaluated = iter(losses), loop.evaluate, []

    def scripted(layer, batches, objective, observe=None):
        evaluated.append(files.arrays_of(layer))
        if batches is test:
            return honest(layer, batches, objective, observe)
        return {"loss": next(script), "error": 0.0}

    monkeypatch.setattr(loop, "evaluate", scripted)
    test = pairs(1, 2)
    layer, result = trained(tmp_path, test=test)
    assert checkpoint.load(result.folder / "best.safetensors").progress["epoch"] == best
    assert checkpoint.load(result.folder / "last.safetensors").progress["epoch"] == 3
    for arrays in (files.arrays_of(layer), evaluated[-1]):  # left in the net, and tested
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, evaluated[best - 1][name])


def test_the_highest_accuracy_is_best_where_there_is_one(tmp_path, monkeypatch):
    script = iter([(0.5, 1.0), (0.75, 2.0), (0.75, 0.5)])

    def scripted(*_):
        accuracy, loss = next(script)
        return {"loss": loss, "accuracy": accuracy}

    monkeypatch.setattr(loop, "evaluate", scripted)
    console = quiet()
    _, result = trained(tmp_path, console, test=None)
    assert checkpoint.load(result.folder / "best.safetensors").progress["epoch"] == 2
    assert "val 75.00%" in console.file.getvalue()


class Shuffled:
    """Batches that differ from epoch to epoch."""

    def __init__(self):
        self.seen = []

    def __len__(self):
        return 3

    def epoch(self, epoch):
        self.seen.append(epoch)
        return iter(pairs(3, seed=epoch))


def test_batches_that_differ_from_epoch_to_epoch(tmp_path):
    batches = Shuffled()
    trained(tmp_path, batches=batches)
    assert batches.seen == [0, 1, 2]


def test_accumulated_batches(tmp_path):
    """Five batches in groups of two: three steps an epoch, the last of one batch."""
    layer, result = trained(tmp_path, batches=pairs(5), accumulate=2, log_every=1, epochs=1)
    assert [record["step"] for record in lines(result.folder, "step")] == [1, 2, 3]
    mine = net()
    optimiser, batches = SGD(mine), pairs(5)
    for k, group in enumerate((batches[:2], batches[2:4], batches[4:])):
        rate = lr_at(k, 3, peak=0.05, schedule="cosine", warmup=0)
        loop.train_step(mine, SquaredError(), optimiser, group, rate)
    for name, array in files.arrays_of(mine).items():
        np.testing.assert_array_equal(files.arrays_of(layer)[name], array)


def test_integer_targets(tmp_path):
    """Labels of any integer dtype; data["classes"] asks for a confusion matrix."""
    layer = nn.Chain(("flat", nn.Flatten()), ("fc", nn.Linear(16, 300, rng=0)))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 1, 4, 4)).astype(np.float32)
    batches = [(x, np.array([0, 299, 256, 255], np.int16))]
    objective, classes = SoftmaxCrossEntropy(), [str(k) for k in range(300)]
    result = run(
        layer,
        objective,
        batches,
        SGD(layer),
        epochs=20,
        lr=1.0,
        test=batches,
        out=tmp_path,
        data={"classes": classes},
        console=quiet(),
    )
    assert result.test["accuracy"] == 1
    assert np.argwhere(result.confusion).tolist() == [[k, k] for k in (0, 255, 256, 299)]
    assert checkpoint.load(result.folder / "last.safetensors").data == {"classes": classes}


def test_evaluate_is_a_mean_over_inputs_not_batches():
    layer, objective = net(), SquaredError()
    (x, targets), *_ = pairs(1)
    parts = [(x[:5], targets[:5]), (x[5:], targets[5:])]
    outs = []
    metrics = evaluate(layer, parts, objective, lambda out, _: outs.append(out))
    expected = objective.forward(layer.predict(x), targets)[0]
    assert metrics["loss"] == pytest.approx(expected, rel=1e-12)
    assert metrics == pytest.approx(evaluate(layer, [(x, targets)], objective), rel=1e-12)
    assert [out.shape for out in outs] == [(5, 2), (1, 2)]
    with pytest.raises(
        ValueError, match="^evaluate: batches is empty, expected at least one batch"
    ):
        evaluate(layer, [], objective)


def test_confusion_by_hand():
    confusion = Confusion(3)
    confusion(np.eye(3)[[0, 2, 2]], [0, 1, 2])
    confusion(np.eye(3)[[2]], np.array([1]))
    assert confusion.counts.tolist() == [[1, 0, 0], [0, 0, 2], [0, 0, 1]]


# Reading the checkpoint of a custom net


def test_its_checkpoint_is_read_into_the_net(tmp_path):
    layer, result = trained(tmp_path)
    other = net(seed=1)
    nn.load(other, result.folder / "best.safetensors")
    for name, array in files.arrays_of(layer).items():
        np.testing.assert_array_equal(files.arrays_of(other)[name], array)


def test_load_and_eval_refuse_it_with_the_remedy(tmp_path):
    _, result = trained(tmp_path)
    own = r"best.safetensors holds a custom net, expected one of models.names\(\): build the .*"
    with pytest.raises(ValueError, match=rf"{own}nn.load\(net, '.*best.safetensors'\)"):
        models.load(result.folder)
    with pytest.raises(Failure, match=rf"{own}nn.load\(net, ") as caught:
        evaluate_run(result.folder)
    assert caught.value.status == 2


# Mistakes, which are found before anything is written


WRONG = {
    "no batches": (dict(batches=[]), "run: batches is empty, expected at least one batch"),
    "no validation": (dict(val=[]), "run: val is empty, expected at least one batch"),
    "no test": (dict(test=[]), "run: test is empty, expected at least one batch"),
    "a generator": (
        dict(batches=iter(pairs())),
        r"run: batches is a list_iterator, expected .*: pass list\(batches\)",
    ),
    "one pair": (
        dict(batches=pairs()[0]),
        r"run: batches\[0\] is an? ndarray, expected a pair \(inputs, targets\): pass \[",
    ),
    "a number among the pairs": (
        dict(batches=[*pairs(), 5]),
        r"run: batches\[3\] is a int, expected",
    ),
    "no inputs": (dict(batches=[(None, 1)]), r"run: batches\[0\] has inputs of type NoneType"),
    "an empty batch": (
        dict(val=[(np.ones((0, 1, 4, 4)), np.ones((0, 2)))]),
        r"run: val\[0\] has 0 inputs, expected at least one: leave out the empty batch",
    ),
    "a number": (
        dict(batches=5),
        r"run: batches is a int, expected .*: pass \[\(inputs, targets\)\]",
    ),
    "negative threads": (dict(threads=-1), "run: threads is -1, expected at least 0"),
    "too many threads": (
        dict(threads=4000),
        r"run: threads is 4000, expected at most \d+, the cores",
    ),
    "a name with a folder": (
        dict(name="../x"),
        "run: name is '../x', expected a plain folder name",
    ),
    "no name": (dict(name=""), "run: name is '', expected a plain folder name"),
    "the folder above": (dict(name=".."), "run: name is '..', expected a plain folder name"),
    "a zero byte": (dict(name="a\0b"), r"run: name is 'a\\x00b', expected a plain folder name"),
    "no folder": (dict(out=None), "run: out is a NoneType, expected a folder: pass a path"),
    "a zero byte in the folder": (dict(out="a\0b"), r"run: out is 'a\\x00b', expected a folder"),
    "a number as name": (dict(name=3), "run: name is a int, expected a folder name: pass a string"),
    "a list as data": (dict(data=["a"]), "run: data is a list, expected a dict: pass dict"),
    "data that is not JSON": (
        dict(data=dict(a={1})),
        r"run: data is not JSON \(it has a set\), expected",
    ),
    "a number of classes": (
        dict(data=dict(classes=10)),
        r'run: data\["classes"\] is 10, expected a list of names',
    ),
    "evaluation by a class": (
        dict(evaluation=SquaredError),
        "run: evaluation is the class SquaredError, expected an object",
    ),
    "no epochs": (dict(epochs=0), "run: epochs is 0, expected at least 1"),
    "half an epoch": (dict(epochs=0.5), "run: epochs is 0.5, expected an integer"),
    "no accumulation": (dict(accumulate=0), "run: accumulate is 0, expected at least 1"),
    "no lines": (dict(log_every=0), "run: log_every is 0, expected at least 1"),
    "another schedule": (dict(schedule="step"), "run: schedule is 'step', expected one of cosine"),
    "a negative rate": (dict(lr=-0.1), "run: lr is -0.1, expected a number of at least 0"),
    "a rate of words": (dict(lr="high"), "run: lr is 'high', expected a number of at least 0"),
    "warm-up in steps": (dict(warmup=500), "run: warmup is 500, expected a number from 0 to 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes(tmp_path, name):
    settings, message = WRONG[name]
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        trained(tmp_path, **settings)
    assert list(tmp_path.iterdir()) == []


def test_numbers_and_arrays_of_numpy_are_settings_too(tmp_path):
    numbers = dict(epochs=np.int64(1), accumulate=np.int32(2), log_every=np.uint8(1))
    details = dict(mean=np.array([0.5, 0.25]), step=np.float32(0.5), count=np.int64(3))
    _, result = trained(tmp_path, **numbers, lr=np.float32(0.25), data=details)
    config = json.loads((result.folder / "config.json").read_text())["config"]
    assert (config["epochs"], config["accumulate"], config["lr"]) == (1, 2, 0.25)
    saved = checkpoint.load(result.folder / "last.safetensors")
    assert saved.data == dict(mean=[0.5, 0.25], step=0.5, count=3)


class Numbered(Shuffled):
    """Batches whose number differs from their len."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def epoch(self, epoch):
        return iter(pairs(self.count))


def test_epochs_that_do_not_yield_what_their_length_says(tmp_path):
    _, result = trained(tmp_path, batches=Numbered(7), epochs=1, log_every=1)
    assert [record["step"] for record in lines(result.folder, "step")] == [1, 2, 3]
    nothing = r"train: epoch\(0\) of the batches yields 0 batches, expected 3, their len: return"
    with pytest.raises(ValueError, match=nothing):
        trained(tmp_path, batches=Numbered(0))


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([0, 1], "ab", "Confusion: classes is 2, expected 3, the columns of logits"),
        ([0, 1], "abcd", "Confusion: classes is 4, expected 3, the columns of logits"),
        ([0, -1], "abc", r"Confusion: labels\[1\] is -1, expected 0..2"),
        ([0.0, 1.0], "abc", "Confusion: labels has dtype float64, expected int"),
        ([[0, 1, 0]] * 2, "abc", r"Confusion: labels has shape \(2, 3\), expected \(N,\)"),
    ],
)
def test_classes_and_labels_that_do_not_fit(tmp_path, labels, classes, message):
    """The first validation finds them, although the objective accepts them."""
    layer = nn.Chain(("flat", nn.Flatten()), ("fc", nn.Linear(16, 3, rng=0)))
    batches = [(np.ones((2, 1, 4, 4), np.float32), np.array(labels))]

    class Any(SquaredError):
        def forward(self, out, targets):
            return (out**2).mean(), out

        def metrics(self, out, targets):
            return {}

    start = partial(run, layer, Any(), batches, SGD(layer), val=batches, out=tmp_path)
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        start(epochs=9, data=dict(classes=list(classes)), console=quiet())
    assert lines(tmp_path / "run-1", "epoch") == []


def test_batches_that_evaluate_refuses():
    for batches, message in (
        (5, r"batches is a int, expected .*: pass \[\(inputs, targets\)\]"),
        (iter(pairs()), r"batches is a list_iterator, expected .*: pass list\(batches\)"),
        (pairs()[0], r"batches\[0\] is a ndarray, expected a pair"),
        (Numbered(0), "the number of batches is 0, expected at least one"),
    ):
        with pytest.raises((ValueError, TypeError), match=f"^evaluate: {message}"):
            evaluate(net(), batches, SquaredError())


def test_an_optimiser_of_another_net(tmp_path):
    start = partial(run, net(), SquaredError(), pairs(), epochs=1, out=tmp_path, console=quiet())
    with pytest.raises(ValueError, match=r"optimiser is for another net: pass SGD\(net\)"):
        start(SGD(net()))
    for optimiser, kind in ((None, "NoneType"), (SGD, "type")):
        with pytest.raises(TypeError, match=rf"^run: optimiser is a {kind}, .*: pass SGD\(net\)"):
            start(optimiser)
    assert list(tmp_path.iterdir()) == []


def test_an_older_run_of_that_name_stays(tmp_path):
    trained(tmp_path, name="mine", epochs=1)
    before = (tmp_path / "mine" / "last.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="mine exists already: choose another name"):
        trained(tmp_path, name="mine", epochs=1, lr=0.5)
    assert (tmp_path / "mine" / "last.safetensors").read_bytes() == before
