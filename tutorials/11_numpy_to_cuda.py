import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="From NumPy to CUDA")

with app.setup:
    import marimo as mo
    import numpy as np

    from minise.bench.gpu.compare import PASSES
    from minise.bench.workloads import SE
    from minise.contract.case import Case
    from minise.grading.exercise import Exercise
    from minise.lessons import (
        Arrays,
        Plot,
        Question,
        Task,
        by_gradients,
        cuda_of,
        judged,
        python_of,
        show,
        table,
    )
    from minise.pictures import fused_tail


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 11. From NumPy to CUDA

    A GPU runs the same small program in many thousand threads at once. In this lesson you write
    such programs, called kernels, in Python, run them thread by thread, and read beside each the
    CUDA kernel that our nets use. Nothing here needs a GPU. You learn how to divide an op into
    threads, how threads compute a sum together, why the number of bytes matters more than the
    number of multiplications, and how a kernel is tested.

    You need: [squeeze and excitation](?file=06_squeeze_and_excitation.py). You do not need C++: the
    text explains what is new in each kernel.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Threads, warps, blocks

    A kernel is the body of a loop whose index is the number of the thread. 32 threads are a *warp*:
    they execute the same instruction at the same time. Several warps are a *block*, which has a
    small fast memory that its threads share. Blocks are independent of each other and may run in
    any order.

    The kernel below multiplies every pixel by the gate of its channel, the last line of squeeze and
    excitation. Each thread computes one pixel.
    """)
    return


@app.cell
def _():
    def scale_kernel(thread, x, s, out, pixels):
        """Run one thread; x, s and out are flat arrays, like memory."""
        if thread < len(x):  # the last block may extend beyond the end
            out[thread] = x[thread] * s[thread // pixels]

    image = np.arange(12.0).reshape(1, 3, 2, 2)  # N, C, H, W
    gates = np.array([[1.0, 0.5, 2.0]])
    result = np.zeros(image.size)
    block = 8
    blocks = -(-image.size // block)  # rounded up
    for thread in np.random.default_rng(0).permutation(blocks * block):  # in any order
        scale_kernel(thread, image.ravel(), gates.ravel(), result, pixels=4)
    assert np.array_equal(result.reshape(image.shape), image * gates[:, :, None, None])
    Arrays(1, x=image, s=gates, out=result.reshape(image.shape))
    return block, blocks, image, scale_kernel


@app.cell(hide_code=True)
def _(scale_kernel):
    _as_page = mo.app_meta().mode == "run"  # this mode does not show the code of cells
    mo.md(python_of(scale_kernel)) if _as_page else None
    return


@app.cell(hide_code=True)
def _(block, blocks, image):
    show(
        Question(
            f"""
    The image has {image.size} numbers, and a block has {block} threads. How many threads run? What
    would the last ones do without the line `if thread < len(x)`?
    """,
            f"""
    {blocks * block}: blocks are whole, so {image.size} numbers need {blocks} of them. Without the
    `if`, threads {image.size} to {blocks * block - 1} would read and write beyond the end. In NumPy
    this raises an IndexError; on a GPU they overwrite whatever lies there.
    """,
        )
    )
    return


@app.cell(hide_code=True)
def _(block, blocks, image):
    mo.md(f"""
    {image.size} pixels in blocks of {block} threads: {blocks} blocks, that is {blocks * block}
    threads, of which {blocks * block - image.size} have no pixel. They ran in a shuffled order, and
    the result is the same: no thread reads a number that another thread writes.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    This is the kernel that our nets use, from
    `minise/ops/cuda/squeeze_excite.cu`. `__global__` marks a kernel. Each
    *warp* computes a row, one channel of one image. The 32 threads of a warp are its *lanes*. Each
    lane takes `P` neighbouring pixels at a time: lane 3 computes pieces 3, 35, 67 and so on. This
    loop is `map_rows`, in `minise/ops/cuda/common.cuh`; it calls the function in
    braces with the first pixel `i` of each piece. A row of odd size, such as 7 x 7, does not divide
    into whole pieces, but four such rows do, so a warp then computes four rows (`ROWS`). A piece
    may span two rows, whose maps are `first` and `last`. `backward` uses `affine_rows` too, with
    a `shift`.
    """),
            mo.md(
                cuda_of(
                    ("squeeze_excite.cu", "template <int P, int ROWS, class AffineOf> __device__"),
                    (
                        "squeeze_excite.cu",
                        'extern "C" __global__ void __launch_bounds__(256) scale(',
                    ),
                )
            ),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## A sum over threads

    The squeeze is a sum over a whole channel, so the threads must cooperate. Each lane of the warp
    sums every 32nd pixel. Then the sums of the lanes are added in pairs: lane $i$ adds the sum of
    lane $i + 16$, then of lane $i + 8$, and so on. 32 lanes take five steps in place of
    the 31 additions of a single thread. Move the slider to see the steps for 8 lanes.
    """)
    return


@app.cell
def _():
    halvings = mo.ui.slider(0, 3, value=1, label="steps", show_value=True)
    halvings
    return (halvings,)


@app.cell
def _(halvings):
    lanes = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])
    stages = {"lanes": lanes}
    for _step in range(halvings.value):
        _half = 4 >> _step
        lanes = np.concatenate([lanes[:_half] + lanes[_half : 2 * _half], lanes[_half:]])
        stages[f"after_step_{_step + 1}"] = lanes
    Arrays(0, **stages)
    return (stages,)


@app.cell(hide_code=True)
def _(stages):
    _last = list(stages.values())[-1]
    mo.md(f"""
    Lane 0 has {_last[0]:.0f}; the sum of all lanes is {stages["lanes"].sum():.0f}. The order of the
    additions is fixed, so the result is bit-identical in every run. If all threads added to one
    address in memory (atomic additions), the order and the rounding would differ from run to run.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    In the kernel a lane reads a register of another lane with `__shfl_xor_sync`: pairs of lanes
    exchange their sums, first lanes $i$ and $i + 16$, so that in the end every lane has the whole
    sum. `sum_of_lanes` is in `minise/ops/cuda/common.cuh`, which is prepended to
    every source.
    """),
            mo.md(
                cuda_of(
                    ("common.cuh", "template <class T> __device__ __forceinline__ T sum_of_lanes"),
                    (
                        "squeeze_excite.cu",
                        "template <int P, int ROWS> __device__ real sum_of_pixels",
                    ),
                )
            ),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Neighbouring lanes read neighbouring numbers

    A GPU reads memory in sectors of 32 bytes: 8 numbers of four bytes. If the lanes of a warp read
    32 neighbouring numbers, four sectors are enough (coalesced access). If the distance between the
    numbers is `step`, more sectors are read, and most of each is unused.
    """)
    return


@app.cell(hide_code=True)
def _():
    _sectors = len(np.unique(np.arange(32) * 8 // 8))
    show(
        Question(
            """
    32 lanes read 32 numbers of four bytes. If they are neighbours, 4 sectors of 32 bytes are read.
    How many sectors are read if the lanes read every eighth number? Which share of the bytes is
    used?
    """,
            f"""
    {_sectors} sectors, one for each lane, and {32 / (8 * _sectors):.1%} of their bytes. The same 32
    numbers cost {_sectors // 4} times as much memory traffic.
    """,
        )
    )
    return


@app.cell
def _():
    step = mo.ui.slider(steps=[1, 2, 4, 8, 16, 32], value=1, label="step", show_value=True)
    step
    return (step,)


@app.cell(hide_code=True)
def _(step):
    _read = np.arange(32) * step.value
    _sectors = len(np.unique(_read // 8))
    _plot = Plot(0.9)
    _axes = _plot.axes
    _axes.imshow(np.isin(np.arange(1024), _read)[None], aspect="auto", cmap="Blues", vmax=1.3)
    _axes.set_yticks([])
    _axes.set_xticks(range(0, 1025, 256))
    _axes.set_xlabel("address, in numbers of four bytes; blue: read by the 32 lanes")
    mo.vstack(
        [
            _plot,
            mo.md(
                f"Step {step.value}: {_sectors} sectors read, of which "
                f"{32 / (8 * _sectors):.0%} is used. This is why a lane takes every 32nd pixel, "
                "and not 32 neighbouring pixels."
            ),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Count bytes

    A GPU multiplies much faster than it reads memory. An op such as squeeze and excitation has few
    multiplications per pixel, so its time is determined by the bytes that it reads and writes: it
    is memory-bound. Count how often arrays of the size of $x$ are read or written:

    | pass | read | written |
    |:---|---:|---:|
    | squeeze | x | |
    | scale | x | out |
    | backward: gradient of the gates | dout, x | |
    | backward: gradient of the input | dout | dx |

    The sum over a channel must be complete before its first pixel can be scaled. So simple kernels
    read $x$ twice, and `dout` too. A kernel that keeps a whole image in the shared memory of a
    block reads each once. This is the beginning of such a kernel,
    `minise/ops/cuda/squeeze_excite_tile.cu`:
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(cuda_of(("squeeze_excite_tile.cu", "template <int P> __device__ void forward_image")))
    return


@app.cell
def _():
    N, C, H, W = 128, 64, 32, 32
    speed = mo.ui.slider(500, 5000, step=500, value=2000, label="GB/s", show_value=True)
    speed
    return C, H, N, W, speed


@app.cell(hide_code=True)
def _(C, H, N, W, speed):
    _megabytes = 4 * N * C * H * W / 1e6
    _rows = []
    for _way in ("simple", "tile"):
        _passes = PASSES[SE, _way]
        _least = [passes * _megabytes / speed.value * 1e3 for passes in _passes]
        _times = (f"{microseconds:.0f} µs" for microseconds in _least)
        _rows.append((_way, f"{_passes[0]} + {_passes[1]}", *_times))
    mo.vstack(
        [
            mo.md(f"""
    For {N} images with {C} channels of {H} x {W} pixels, one array has {_megabytes:.0f} MB. At a
    bandwidth of {speed.value:,} GB/s these times are lower bounds. Faster arithmetic does not
    change them.
    """),
            mo.md(table(["kernels", "arrays, forward + backward", "forward", "backward"], _rows)),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    Fewer passes are also the reason for *fused* ops. The end of a block of [lesson
    7](?file=07_residual_blocks.py) is four ops: normalisation, squeeze and excitation, a sum and a
    ReLU. Called one by one, each writes its result to memory, and the next one reads it again. As
    one op, `se_block_tail`, they compute the same numbers in fewer passes:
    """),
            fused_tail(),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Tested without a GPU

    `__syncthreads()` in the kernel above is a barrier: no thread of the block continues before all
    threads have reached it. Without the barrier, a thread may read a number that another thread has
    not yet written (a race). The mistake is hard to notice, because often the order happens to be
    right.

    Python can simulate this. A thread is a generator, `yield` is the barrier, and a launch runs the
    threads in any order that we choose. The shared memory is initialised with NaN, so that a read
    of an unwritten number gives NaN. Here 8 threads sum 8 numbers, with and without the barrier.
    """)
    return


@app.cell
def _():
    numbers = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])

    def sum_in_block(thread, shared, waits):
        """Run one thread of a sum; the result is in shared[0]."""
        shared[thread] = numbers[thread]
        half = len(numbers) // 2
        while half:
            if waits:
                yield  # __syncthreads()
            if thread < half:
                shared[thread] += shared[thread + half]
            half //= 2

    def launch(order, waits):
        """Return the sum; threads run in this order, each up to its next barrier."""
        shared = np.full(len(numbers), np.nan)
        threads = [sum_in_block(thread, shared, waits) for thread in order]
        while threads:
            threads = [thread for thread in threads if next(thread, "done") != "done"]
        return shared[0]

    orders = {
        "in order": range(8),
        "backwards": range(7, -1, -1),
        "shuffled": np.random.default_rng(0).permutation(8),
    }
    sums = {
        name: [launch(order, waits) for waits in (True, False)] for name, order in orders.items()
    }
    return launch, numbers, sum_in_block, sums


@app.cell(hide_code=True)
def _(sum_in_block, launch):
    _as_page = mo.app_meta().mode == "run"  # this mode does not show the code of cells
    mo.md(python_of(sum_in_block, launch)) if _as_page else None
    return


@app.cell(hide_code=True)
def _(sums):
    _lucky = [name for name, (right, wrong) in sums.items() if right == wrong]
    show(
        Question(
            """
    Without the barrier, each thread runs to its end before the next one starts. Is
    the sum right if the threads run in order, from thread 0 to thread 7? If they run backwards?
    """,
            f"""
    In order: {sums["in order"][1]:g}. Thread 0 reads numbers that nobody has written yet, and NaN
    shows it. Backwards: {sums["backwards"][1]:g}, the right sum, because every thread finds
    the complete work of the threads above it. Right for: {", ".join(_lucky)}.
    """,
        )
    )
    return


@app.cell(hide_code=True)
def _(numbers, sums):
    _rows = [(name, f"{right:g}", f"{wrong:g}") for name, (right, wrong) in sums.items()]
    _lucky = [name for name, (right, wrong) in sums.items() if right == wrong]
    mo.vstack(
        [
            mo.md(table(["threads run", "with the barrier", "without"], _rows)),
            mo.md(f"""
    The sum is {numbers.sum():g}. Without the barrier it is right only for this order:
    {", ".join(_lucky)}. A test with only this order would not detect the missing barrier.

    An emulator (`tests/ops/cuda/emulator.h`) does the same with the real sources. A C++ compiler
    builds the `.cu` file for the processor; each CUDA thread is a fiber, which runs until a barrier
    or a shuffle. Every kernel runs in several orders, on difficult shapes, between guard zones that
    it must not write, and is compared with the reference in
    float64 (`tests/ops/cuda/test_kernels.py`). NVIDIA's compiler, which needs no GPU either,
    builds each kernel for four GPU generations (`tests/ops/cuda/test_compile.py`); a kernel that
    runs out of registers fails the test. To test the tests, bugs are
    inserted (`tests/ops/cuda/test_mutants.py`) one by one, missing barriers among them. The
    emulator cannot measure speed. `minise bench cuda` measures it on a GPU; the
    `README.md` lists what has been measured.
    """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: backward, one warp per channel

    The op is `channel_scale`: $\text{out} = x \cdot s$. The code below is its backward as a warp
    computes it, for one row after the other: `row` is a channel of an image, `lane` is one of 32,
    and each lane takes every 32nd pixel `i`. Fill in what a lane computes for a pixel, and how the
    sums of the lanes are added.
    """)
    return


@app.function
def channel_scale_backward(dout, cache):
    rows = cache.s.size
    x, dy, s = cache.x.reshape(rows, -1), dout.reshape(rows, -1), cache.s.ravel()
    dx = np.zeros(x.shape)
    ds = np.zeros(rows)
    for row in range(rows):
        lanes = np.zeros(32)
        for lane in range(32):
            for i in range(lane, x.shape[1], 32):
                dx[row, i] = ...
                lanes[lane] += ...
        for half in (16, 8, 4, 2, 1):
            lanes[:half] += ...
        ds[row] = lanes[0]
    return dx.reshape(cache.x.shape), ds.reshape(cache.s.shape)


@app.cell(hide_code=True)
def _():
    exercise = Exercise(
        [
            Case("channel_scale", dict(N=1, C=1, H=1, W=2)),
            Case("channel_scale", dict(N=1, C=2, H=5, W=7)),
            Case("channel_scale", dict(N=2, C=3, H=5, W=8)),
        ],
        hints={
            "dx": (
                "out = x * s: x's factor is the gate of its row.",
                "dx[row, i] = dy[row, i] * s[row]",
            ),
            "lanes": (
                "All pixels use one gate: each lane sums dy * x over its pixels.",
                "Then each lane of the lower half adds the sum of a lane of the upper half.",
                "lanes[lane] += dy[row, i] * x[row, i]; lanes[:half] += lanes[half : 2 * half]",
            ),
            "ds": ("In the end lane 0 has the sum.", "ds[row] = lanes[0]"),
        },
        given=("rows",),
    )
    return (exercise,)


@app.cell(hide_code=True)
def _(exercise):
    judged(exercise, channel_scale_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    ## Task: the indices of a thread

    The kernel below adds neighbours: a row of `W` numbers becomes a row of `W - 1` sums. It sees
    flat arrays, as a GPU does, and each thread computes one sum:
    """),
            mo.md(python_of(sum_neighbours)),
            mo.md(r"""
    In backward, a thread for each *sum* would add to two entries of `dx`, and the next thread to
    one of the same entries: a race. So write a kernel with a thread for each entry of `dx`, which
    collects what belongs to it. How many sums does an entry have a part in, and where do they
    lie in the flat `dout`? The threads run in any order, and `dx` is NaN before they start.
    """),
        ]
    )
    return


@app.function(hide_code=True)
def sum_neighbours(thread, x, out, W):
    row, k = divmod(thread, W - 1)
    first = row * W + k  # in x the rows are one number longer
    out[thread] = x[first] + x[first + 1]


@app.function
def spread_neighbours(thread, dout, dx, W):
    """Write dx[thread]; dout and dx are flat."""
    ...


@app.cell(hide_code=True)
def _():
    def run_threads(kernel, count, *arguments):
        for thread in np.random.default_rng(0).permutation(count):  # in any order
            kernel(int(thread), *arguments)

    def forward(x):
        rows, W = x.shape
        out = np.zeros((rows, W - 1), x.dtype)
        run_threads(sum_neighbours, out.size, x.ravel(), out.reshape(-1), W)
        return out, x.shape

    def judge(kernel):
        """Judge the backward whose threads run the kernel."""

        def backward(dout, shape):
            dx = np.full(shape, np.nan)
            run_threads(kernel, dx.size, dout.ravel(), dx.reshape(-1), shape[1])
            return dx

        x = np.random.default_rng(8).standard_normal((3, 4))
        return by_gradients(forward, [x], names=["x"])(backward)

    task = Task(
        judge,
        hints=(
            "row, i = divmod(thread, W): the entry is number i of its row.",
            "It is the first summand of sum i, if there is such a sum: i < W - 1. And the second "
            "summand of sum i - 1, if i > 0.",
            "In dout a row has W - 1 numbers, so sum i of the row lies at row * (W - 1) + i.",
        ),
        solution="""
            def spread_neighbours(thread, dout, dx, W):
                row, i = divmod(thread, W)
                total = 0.0
                if i < W - 1:
                    total += dout[row * (W - 1) + i]
                if i > 0:
                    total += dout[row * (W - 1) + i - 1]
                dx[thread] = total
        """,
    )
    return (task,)


@app.cell(hide_code=True)
def _(task):
    judged(task, spread_neighbours)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The CUDA kernel

    In CUDA there are no outer loops: `blockIdx` and `threadIdx` give the row and the lane of a
    thread. The loop bodies are the same. Compare `sum_of_pixels`, with
    `factor`, with your `lanes`: both compute $ds$.
    The kernel around it continues to $dv$:
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(
        cuda_of(
            ("squeeze_excite.cu", "template <int P, int ROWS> __device__ real sum_of_pixels"),
            (
                "squeeze_excite.cu",
                'extern "C" __global__ void __launch_bounds__(256) gate_gradient(',
            ),
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Summary

    - Divide the work so that no two threads write the same address.
    - Neighbouring lanes should read neighbouring numbers.
    - Compute sums in a fixed tree.
    - Count bytes first: a memory-bound kernel takes the time of its reads and writes.

    The kernels, in the recommended order:
    `minise/ops/cuda/squeeze_excite.cu`,
    `minise/ops/cuda/squeeze_excite_tile.cu`,
    `minise/ops/cuda/block_tail.cu` (normalisation, gate, shortcut and ReLU
    together), `minise/ops/cuda/windows.cu` (convolution and pooling). With a GPU,
    `minise train --ops cuda` runs them. Back to the [list of lessons](./).

    Sources: Harris, *Optimizing Parallel Reduction in CUDA* (NVIDIA); the CUDA C++ programming
    guide.
    """)
    return


if __name__ == "__main__":
    app.run()
