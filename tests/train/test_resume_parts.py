"""What a resumed run of an own net restores and compares: any optimiser's arrays, data, order."""

import re

import numpy as np
import pytest

from minise import nn
from minise.data import Batches, Dataset
from minise.train import SGD, SoftmaxCrossEntropy, checkpoint, run
from tests.train.regression import WithCounter
from tests.train.test_resume import Killed, killed_after, quiet

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 3, 2, 2), np.uint8)
UNITS = dict(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


class InOrder:
    """Batches in the order of a list, without a parameter start."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def epoch(self, epoch):
        return iter(self.batches[epoch:] + self.batches[:epoch])


def batches(pixels=PIXELS, **settings):
    dataset = Dataset("x", pixels, np.arange(24) % 2, ("a", "b"))
    return Batches(dataset, 4, **UNITS, **settings)


def train(folder, source, optimiser=WithCounter, rng=0, **settings):
    layers = nn.Flatten(), nn.Dropout(0.2, rng=rng), nn.Linear(12, 2, rng=rng)
    net, console = nn.Chain(*layers), quiet()
    settings |= dict(epochs=2, save_every=0, out=folder, console=console)
    run(net, SoftmaxCrossEntropy(), source, optimiser(net), **settings)
    return console.file.getvalue()


def stopped(monkeypatch, folder, source, **settings):
    """Return the folder of a run that was killed after seven of twelve steps."""
    with monkeypatch.context() as patch:
        killed_after(patch, 7)
        with pytest.raises(Killed):
            train(folder, source, name="killed", **settings)
    return folder / "killed"


def arrays(folder):
    content = checkpoint.load(folder / "last.safetensors")
    return {**content.arrays, **content.optimiser}


@pytest.mark.parametrize("in_order", [False, True])
def test_any_optimiser_goes_on_bit_for_bit(tmp_path, monkeypatch, in_order):
    def source():
        return InOrder(list(batches().epoch(0))) if in_order else batches()

    train(tmp_path, source(), name="expected")
    folder = stopped(monkeypatch, tmp_path, source())
    train(tmp_path, source(), rng=5, resume=folder)
    expected = arrays(tmp_path / "expected")
    assert {"velocity/2.weight", "average/2.bias", "steps", "1.seed", "1.draws"} <= {*expected}
    assert int(expected["steps"]) == 12
    for name, array in arrays(folder).items():
        np.testing.assert_array_equal(array, expected[name])


def test_an_optimiser_with_other_arrays_is_refused(tmp_path, monkeypatch):
    folder = stopped(monkeypatch, tmp_path, batches(), optimiser=SGD)
    before = (folder / "last.safetensors").read_bytes()
    with pytest.raises(ValueError, match="does not fit the optimiser: it lacks average/2.bias, av"):
        train(tmp_path, batches(), resume=folder, anyway=True)
    assert (folder / "last.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            batches(PIXELS ^ 1),
            r"training data: \w{32} when saved, \w{32} now",
        ),
        (batches(seed=1), "training batches: seed=0 when saved, seed=1 now"),
    ],
)
def test_other_data_or_another_order_needs_anyway(tmp_path, monkeypatch, source, message):
    folder = stopped(monkeypatch, tmp_path, batches())
    with pytest.raises(ValueError, match=f"^resume: {message}: the result would not be bit-ident"):
        train(tmp_path, source, resume=folder)
    text = train(tmp_path, source, resume=folder, anyway=True)
    assert re.search(message, " ".join(text.split()))
