"""Sources of batches: an epoch from a later batch on, and groups of batches."""

from collections.abc import Sequence

import numpy as np
import pytest

from minise.data import Batches, Dataset, fingerprint
from minise.train.batches import UNKNOWN, batches_fingerprint, epoch_batches, group_batches

PAIRS = [(np.full((2, 1), k), np.zeros(2, np.int64)) for k in range(7)]


class Source:
    """An object with __len__ and epoch(k); epoch 1 is in reverse order."""

    def __init__(self):
        self.yielded = []

    def __len__(self):
        return 7

    def epoch(self, epoch):
        for pair in PAIRS[:: -1 if epoch else 1]:
            self.yielded.append(pair)
            yield pair
        raise AssertionError("a source may yield more than its length; nobody reads it")


class WithStart(Source):
    def epoch(self, epoch, start=0):
        for pair in PAIRS[:: -1 if epoch else 1][start:]:
            self.yielded.append(pair)
            yield pair


class PositionalStart(Source):
    def epoch(self, epoch, start=0, /):
        return Source.epoch(self, epoch)


class OnDisk(Sequence):
    """A sequence that counts the batches that it reads and cannot be sliced."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return 7

    def __getitem__(self, k):
        if not 0 <= k < 7:
            raise IndexError(k)
        self.read.append(k)
        return PAIRS[k]


def numbers(batches):
    return [int(x[0, 0]) for x, _ in batches]


@pytest.mark.parametrize("start", range(8))
@pytest.mark.parametrize("kind", [Source, WithStart, PositionalStart, OnDisk, lambda: PAIRS])
def test_every_kind_of_source_starts_at_a_batch(kind, start):
    assert numbers(epoch_batches(kind(), 0, start)) == list(range(start, 7))


def test_a_source_with_start_makes_no_batch_in_vain():
    source, other = WithStart(), Source()
    assert numbers(epoch_batches(source, 1, 5)) == numbers(epoch_batches(other, 1, 5)) == [1, 0]
    assert (len(source.yielded), len(other.yielded)) == (2, 7)


def test_a_sequence_is_read_from_start_on():
    source = OnDisk()
    assert numbers(epoch_batches(source, 0, 4)) == [4, 5, 6]
    assert source.read == [4, 5, 6]
    assert numbers(epoch_batches(source, 3)) == list(range(7))


def test_batches_of_a_data_set():
    images = np.arange(10 * 3, dtype=np.uint8).reshape(10, 3, 1, 1)
    dataset = Dataset("ten", images, np.zeros(10, np.int64), ("a",))
    source = Batches(dataset, 3, mean=(0, 0, 0), std=(1, 1, 1))
    for (x, _), (expected, _) in zip(
        epoch_batches(source, 2, 1), list(source.epoch(2))[1:], strict=True
    ):
        np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("source", [Source(), WithStart(), PAIRS])
def test_a_start_outside_of_the_epoch(source):
    with pytest.raises(ValueError, match=r"start is 8, expected at most 7: an epoch has no more"):
        epoch_batches(source, 0, 8)
    with pytest.raises(ValueError, match="start is -1, expected at least 0"):
        epoch_batches(source, 0, -1)


@pytest.mark.parametrize("steps", range(4))
def test_groups_after_some_steps_are_those_of_the_whole_epoch(steps):
    groups = [numbers(group) for group in group_batches(PAIRS, 2)]
    assert groups == [[0, 1], [2, 3], [4, 5], [6]]
    rest = group_batches(epoch_batches(PAIRS, 0, 2 * steps), 2)
    assert [numbers(group) for group in rest] == groups[steps:]


def test_the_fingerprint_of_a_data_set_and_of_an_objects_own():
    dataset = Dataset("x", np.zeros((2, 3, 1, 1), np.uint8), np.zeros(2, np.int64), ("a",))
    source = Batches(dataset, 1, mean=(0, 0, 0), std=(1, 1, 1))
    assert batches_fingerprint(source) == fingerprint(dataset)
    own = Source()
    assert batches_fingerprint(own) == batches_fingerprint(OnDisk()) == UNKNOWN
    own.fingerprint = "version 3"
    assert batches_fingerprint(own) == "version 3"
    own.fingerprint = lambda: "version 4"
    assert batches_fingerprint(own) == "version 4"


X, Y = np.arange(6.0).reshape(3, 2), np.array([0, 1, 0])
LISTS = {
    "a batch": [(X, Y)],
    "another dtype": [(X.astype(np.float32), Y)],
    "another shape": [(X.reshape(3, 2, 1), Y)],
    "another value": [(X + (X == 5), Y)],
    "other targets": [(X, 1 - Y)],
    "two batches": [(X, Y), (X, Y)],
    "batches of other sizes": [(X[:1], Y[:1]), (X[1:], Y[1:])],
    "no targets": [(X, None)],
    "targets by name": [(X, "abc")],
    "complex": [(X + 1j, Y)],
    "two targets": [(X, (Y, 0.5))],
    "a nested list": [(X, [Y, [0.5]])],
}


def test_the_fingerprint_of_a_list():
    fingerprints = {name: batches_fingerprint(batches) for name, batches in LISTS.items()}
    assert len({*fingerprints.values()}) == len(LISTS)
    assert UNKNOWN not in fingerprints.values()
    equal = (np.asfortranarray(X), Y.astype(">i8")), (X.copy(), Y.tolist())
    assert batches_fingerprint([equal[0]]) == batches_fingerprint((list(equal[0]),))
    assert batches_fingerprint([equal[0]]) == fingerprints["a batch"]
    assert batches_fingerprint([equal[1]]) != fingerprints["a batch"]


@pytest.mark.parametrize(
    "targets", [{"a": Y}, np.array([None, "x"]), Source()], ids=["dict", "objects", "source"]
)
def test_a_list_of_other_objects_is_unknown(targets):
    assert batches_fingerprint([(X, Y), (X, targets)]) == UNKNOWN
