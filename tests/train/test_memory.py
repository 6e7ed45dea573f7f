"""A training step that does not fit into memory."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest

from minise import models, nn
from minise.analysis import memory_of
from minise.cli import main
from minise.ops import jit, reference, wrap
from minise.train.available import Available, available
from minise.train.memory import MARGIN, OutOfMemory, check_memory, out_of_memory
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


def tell(root, files):
    """Write the files of a fake /proc and /sys/fs/cgroup; return both folders."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "proc", root / "groups"


MEMINFO = "MemTotal: 9000 kB\nMemAvailable:    3000 kB\nSwapFree: 500 kB\n"
VERSION_2 = {
    "proc/meminfo": MEMINFO,
    "proc/self/cgroup": "0::/a/b\n",
    "groups/a/b/memory.max": "max\n",
    "groups/a/b/memory.current": "700000\n",
    "groups/a/memory.max": "2000000\n",
    "groups/a/memory.current": "1500000\n",
    "groups/a/memory.stat": "anon 1400000\nfile 100000\n",
}
VERSION_1 = {
    "proc/meminfo": MEMINFO,
    "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/x\n",
    "groups/memory/x/memory.limit_in_bytes": "1000000\n",
    "groups/memory/x/memory.usage_in_bytes": "900000\n",
    "groups/memory/x/memory.stat": "cache 7\ntotal_cache 300000\n",
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/meminfo": "MemAvailable: many kB\n"}, None),
        ({"proc/meminfo": MEMINFO}, (3500 * 1024, "on this machine")),
        (VERSION_2, (600_000 + 500 * 1024, "in this control group (container)")),
        (VERSION_1, (400_000 + 500 * 1024, "in this control group (container)")),
    ],
)
def test_what_the_system_tells(files, expected, tmp_path):
    assert available(*tell(tmp_path, files)) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_the_limit_of_address_space():
    code = (
        "import resource; from minise.train.available import available\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, resource.RLIM_INFINITY))\n"
        "left = available(); assert 0 < left.bytes < 3 << 30, left; print(left.where)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "under the limit of address space (ulimit -v)\n"


@pytest.fixture
def limited(monkeypatch):
    """Return a function that sets the number of available bytes, or None for unknown."""

    def set_available(count):
        memory = None if count is None else Available(count, "on this machine")
        monkeypatch.setattr("minise.train.memory.available", lambda: memory)

    return set_available


@pytest.mark.parametrize("ops", ["reference", "jit"])
def test_the_largest_batch_that_fits_is_named(ops, limited):
    limited(most := math.ceil(memory_of("resnet8", 41, ops=ops).peak / MARGIN))
    assert memory_of("resnet8", 42, ops=ops).peak > MARGIN * most
    check_memory("resnet8", 42, ops=ops)  # it is refused only beyond what is available
    needed = memory_of("resnet8", 100, ops=ops).peak
    with pytest.raises(OutOfMemory) as error:
        check_memory("resnet8", 100, ops=ops, accumulate=2)
    assert str(error.value) == (
        f"train: a step on a batch of 100 needs {needed / 1e6:.1f} MB, but {most / 1e6:.1f} MB are "
        "available on this machine: a batch of 41 fits: use --batch-size 41, with --accumulate 6 "
        "for gradients over as many images as before"
    )


def test_data_and_a_net_that_stands_count(limited):
    memory = memory_of("resnet8", 8)
    limited(memory.peak)
    check_memory("resnet8", 8, ops="reference")
    with pytest.raises(OutOfMemory, match=r"a batch of [67] fits"):
        check_memory("resnet8", 8, ops="reference", data_bytes=10)
    limited(memory.peak - memory.parameters - memory.statistics - memory.velocities)
    check_memory(models.build("resnet8"), 8, ops="reference")  # its parameters are not free memory


def test_not_one_image_fits(limited):
    limited(1000)
    with pytest.raises(OutOfMemory, match="a batch of 1 does not fit either: use a smaller net"):
        check_memory("resnet8", 8, ops="reference")


def test_where_nothing_is_known_nothing_is_refused(limited):
    limited(None)
    check_memory("resnet8", 1 << 40, ops="reference")
    limited(0)
    for ops in ("cuda", "my_ops.py"):
        check_memory("resnet8", 1 << 40, ops=ops)


class NeedsElements(nn.ReLU):
    """A layer that cannot run on arrays of shapes."""

    def forward(self, x, training):
        raise RuntimeError("not a real array")


@pytest.mark.parametrize("ops", [reference, jit, jit.using(threads=1)])
def test_a_back_end_itself_may_be_passed(ops, limited):
    limited(0)
    net = models.build("resnet8", ops=ops)
    with pytest.raises(OutOfMemory, match="a step on a batch of 4 needs"):
        check_memory(net, 4, ops=net.ops)
    check_memory(nn.Chain(NeedsElements(), net), 4, ops=net.ops)
    check_memory(net, 4, ops=wrap.guarded(ops))


def test_an_enormous_batch_is_refused_at_once():
    """With the real limits of this machine."""
    with pytest.raises(
        OutOfMemory, match=r"needs .* [MG]B, but .* [MG]B are available .*: a batch of"
    ):
        check_memory("resnet8", 1 << 40, ops="reference")
