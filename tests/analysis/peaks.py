"""Compare predicted with measured memory of training steps: `python -m tests.analysis.peaks`.

Each case runs in a process of its own. Before the measurement, a step on two images loads the
kernels, and the C library returns what it has freed; the peak is that of the process' resident
memory (Linux) over three training steps, less the resident memory before the net was built.
"""

import subprocess
import sys

CASES = [  # model, batch size, back end
    ("resnet8", 256, "reference"),
    ("se_resnet20", 64, "reference"),
    ("resnet56", 16, "reference"),
    ("wrn_16_8", 16, "reference"),
    ("se_preact_resnet110", 16, "reference"),
    ("se_resnet110", 128, "jit"),
    ("resnet20", 256, "jit"),
    ("se_wrn_16_8", 32, "jit"),
    ("preact_resnet164", 16, "jit"),
    ("se_resnet8", 64, "jit"),
]
TOLERANCE = 0.15  # of the measured peak
STEPS = 3


def resident(key):
    """Return a number of bytes in /proc/self/status: VmRSS, or its peak VmHWM."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


def train(model, batch_size, ops, steps):
    """Take training steps on random images of 32 x 32."""
    import numpy as np

    from minise import models
    from minise.train import SGD, SoftmaxCrossEntropy, train_step

    net = models.build(model, ops=ops)
    x = np.random.default_rng(0).standard_normal((batch_size, 3, 32, 32), np.float32)
    batch = x, np.arange(batch_size) % 10
    optimiser, objective = SGD(net, 0.9), SoftmaxCrossEntropy(ops)
    for _ in range(steps):
        train_step(net, objective, optimiser, [batch], 0.01)


def measure(model, batch_size, name):
    """Return the peak of this process over its resident memory before the net was built."""
    import ctypes

    from threadpoolctl import threadpool_limits

    from minise.ops.backend import load_ops

    ops = load_ops(name)
    with threadpool_limits(1, "blas"):  # as in minise.train
        train(model, 2, ops, 1)
        if name == "jit":
            from minise.ops.jit.vector.memory import release

            release()
        ctypes.CDLL(None).malloc_trim(0)
        before = resident("VmRSS")
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # resets VmHWM
        train(model, batch_size, ops, STEPS)
    return resident("VmHWM") - before


def measured(model, batch_size, name):
    """Return `measure` in a new process."""
    command = [sys.executable, "-m", "tests.analysis.peaks", model, str(batch_size), name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    """Print the peak of one case, or the table of all."""
    if len(sys.argv) > 1:
        model, batch_size, name = sys.argv[1:]
        print(measure(model, int(batch_size), name))
        return
    from minise.analysis import memory_of

    print("| net | batch | back end | predicted MB | measured MB | predicted / measured |")
    print("|---|---|---|---|---|---|")
    for model, batch_size, name in CASES:
        predicted = memory_of(model, batch_size, ops=name).peak
        peak = measured(model, batch_size, name)
        cells = f"{predicted / 1e6:.0f} | {peak / 1e6:.0f} | {predicted / peak:.3f}"
        print(f"| {model} | {batch_size} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
