"""Which arrays and settings a line reads, also from nested containers."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from minise.tracing.instrument import Line
from minise.tracing.leaves import leaves_of, scalars_of


class Inner(NamedTuple):
    s: Any
    w: Any
    gate: str


class Outer(NamedTuple):
    x: Any
    inner: Inner


CACHE = Outer(np.ones(2), Inner(np.ones(3), np.ones(4), "relu"))


@pytest.mark.parametrize(
    ("right", "texts", "settings"),
    [
        ("dout * cache.x", ["dout", "cache.x"], {}),
        ("dout * cache.inner.s", ["dout", "cache.inner.s"], {}),
        ("f(cache.inner.s.sum(), cache.inner.gate)", ["cache.inner.s"], {"gate": "relu"}),
        ("f(cache.inner)", ["cache.inner.s", "cache.inner.w"], {}),
        ("f(cache)", ["cache.x", "cache.inner.s", "cache.inner.w"], {}),
        ("held['cache'].inner.w", ["held.cache.inner.w"], {}),
        ("held.get('cache')", ["held.cache.x", "held.cache.inner.s", "held.cache.inner.w"], {}),
        ("parts[1].x", ["parts[1].x"], {}),
    ],
)
def test_a_line_reads_the_fields_that_it_names(right, texts, settings):
    line = Line("v", 1, f"v = {right}")
    scope = dict(dout=np.ones(2), cache=CACHE, held=dict(cache=CACHE), parts=(None, CACHE))
    leaves = list(leaves_of(line, scope))
    assert [leaf.text for leaf in leaves] == texts
    assert [leaf.name for leaf in leaves] == [text.rpartition(".")[2] for text in texts]
    assert scalars_of(line, scope) == settings
