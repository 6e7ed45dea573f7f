"""The story of a net: its tree and the code of its composites, or the code of a layer."""

import numpy as np

from minise import nn
from minise.tracing.source import code_of, summary_of
from minise.walk import trace
from tests.walk.pages import walk_of


class Doubled(nn.Linear):
    """A layer of the user."""

    def forward(self, x, training):
        return super().forward(x, training)

    def backward(self, dout, cache, plus=None, needs_dx=True):
        """Do as the linear layer does."""
        return super().backward(dout, cache, plus, needs_dx)


class Small(nn.Chain):
    """A net of the user."""

    def __init__(self):
        super().__init__(("fc", nn.Linear(3, 2)), ("relu", nn.ReLU()))


def test_story_of_a_net_is_its_tree_and_its_composites():
    walked = trace(nn.Chain(("fc", nn.Linear(3, 2)), ("relu", nn.ReLU())), np.ones((1, 3)))
    _, tree, intro, *code = walked.story
    assert "    fc: Linear()  weight (2, 3), bias (2,)" in tree.splitlines()[1]
    assert intro == f"Chain: {summary_of(nn.Chain)} Its forward and its backward:"
    assert code == [code_of(nn.Chain.forward), code_of(nn.Chain.backward)]
    block = "\n".join(walk_of("block.html").story)
    assert code_of(nn.Residual.backward) in block
    assert code_of(nn.Chain.backward) not in block


def test_story_of_a_declared_class_is_its_tree():
    walked = trace(Small(), np.ones((1, 3)))
    assert (walked.name, walked.title) == ("Small", "A net of the user.")
    assert "fc: Linear()" in walked.story[1]


def test_story_of_a_user_layer_is_its_code():
    walked = trace(Doubled(3, 2), np.ones((1, 3)))
    assert (walked.name, walked.title) == ("Doubled", "A layer of the user.")
    assert walked.story[-2:] == [code_of(Doubled.forward), code_of(Doubled.backward)]


def test_story_of_a_single_composite_is_its_tree():
    net = nn.Residual(nn.Chain(("fc", nn.Linear(3, 3, rng=0, dtype=float))))
    walked = trace(net, np.ones((1, 3)))
    assert walked.story[0] == "The net is declared from layers:"
    assert walked.story[2] == f"Residual: {summary_of(nn.Residual)} Its forward and its backward:"
