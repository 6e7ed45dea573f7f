"""A training step that does not fit into memory."""

import re

import numpy as np
import pytest

from minise import nn
from minise.cli import main
from minise.ops import reference
from minise.train.memory import out_of_memory
from tests.train.regression import SquaredError


class Small(nn.Linear):
    """A layer that raises MemoryError for more than max_rows rows."""

    max_rows = 3

    def forward(self, x, training):
        if len(x) > self.max_rows:
            raise MemoryError("Unable to allocate 1.00 TiB\nand more")
        return super().forward(x, training)


def message(size, error=None):
    x = np.ones((size, 3), np.float32)
    error = error or MemoryError("Unable to allocate 1.00 TiB\nand more")
    return str(out_of_memory(error, Small(3, 1), SquaredError(), (x, x[:, :1])))


@pytest.mark.parametrize(("size", "parts"), [(16, 8), (5, 3)])
def test_the_message_has_a_batch_size_that_fits(size, parts):
    assert message(size) == (
        f"train: a step on a batch of {size} does not fit into memory (Unable to allocate 1.00 "
        f"TiB): a batch of 2 fits: use --batch-size 2, with --accumulate {parts} for gradients "
        "over as many images as before"
    )


def test_no_batch_size_fits(monkeypatch):
    monkeypatch.setattr(Small, "max_rows", 0)
    text = message(4, MemoryError())
    assert "(allocation failed): a batch of 1 does not fit either: use a smaller net" in text


def test_on_the_command_line(monkeypatch, tmp_path, capsys):
    forward = reference.conv2d_forward

    def limited(x, *arrays, **settings):
        if len(x) > 8:
            raise MemoryError("Unable to allocate 9.00 GiB")
        return forward(x, *arrays, **settings)

    monkeypatch.setattr(reference, "conv2d_forward", limited)
    line = "train --data shapes10 --limit 64 --val 8 --model se_resnet8 --batch-size 32"
    assert main([*line.split(), "--out", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.match(r"minise: train: a step on a batch of 32 .* a batch of 8 fits: use", lines[0])
