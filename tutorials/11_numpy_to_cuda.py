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
    from minise.lessons import Arrays, Plot, cuda_of, table


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 11. From NumPy to CUDA

    A GPU runs the same small program many thousand times at once. In this lesson you write such
    programs, called kernels, in Python, run them thread by thread, and read beside each the CUDA
    kernel that our nets use. Nothing here needs a GPU. What you learn is how to cut an op into
    threads, how threads add up numbers together, why one counts bytes instead of multiplications,
    and how such a thing is tested.

    You need: [squeeze and excitation](06_squeeze_and_excitation.py). No C++: what is new in a
    kernel is said beside it.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Threads, warps, blocks

    A kernel is the body of a loop whose index is the thread's own number. 32 threads make a
    *warp*: they do the same instruction at the same time. Several warps make a *block*, which has
    some fast memory to share. Blocks know nothing of each other and may run in any order.

    The kernel below multiplies every pixel by the gate of its channel, the last line of squeeze and
    excitation. Each thread does one pixel.
    """)
    return


@app.cell
def _():
    def scale_kernel(thread, x, s, out, pixels):
        """Do the work of one thread; x, s and out are flat, as memory is."""
        if thread < len(x):  # the last block may reach beyond the end
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
    return blocks, block, image


@app.cell(hide_code=True)
def _(block, blocks, image):
    mo.md(f"""
    {image.size} pixels in blocks of {block} threads: {blocks} blocks, that is {blocks * block}
    threads, of which {blocks * block - image.size} find nothing to do. They ran in a
    shuffled order, and the result is the same: no thread reads what another one writes.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    And this is the one that trains, cut from
    [squeeze_excite.cu](../minise/ops/cuda/squeeze_excite.cu). `__global__` marks a kernel. Each
    *warp* owns a row, one channel of one image. Its lanes walk along it side by side and take `P`
    pixels at a time. Lane 3 does pieces 3, 35, 67 and so on. `backward` uses `affine_row` too, with
    a `shift`.
    """),
            mo.md(
                cuda_of(
                    ("squeeze_excite.cu", "template <int P> __device__ void affine_row"),
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
    ## Adding up together

    The squeeze is a sum over a whole channel, and here threads must work together. Each lane of the
    warp adds up every 32nd pixel. Then their sums are added in pairs: lane $i$ takes that of lane
    $i + 16$, then of $i + 8$, and so on. Five steps for 32 lanes, instead of 31. Move the slider
    and watch how a sum of 8 lanes gets done.
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
    Lane 0 holds {_last[0]:.0f}; the sum of all is {stages["lanes"].sum():.0f}. The order of the
    additions is fixed, so the same bits come out in every run. Adding to one place in memory, each
    when it happens to come, would round differently from run to run.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    In the kernel a lane reads the other's register by `__shfl_xor_sync`: lanes swap sums in pairs,
    first those 16 apart, so that in the end every lane has the whole sum. `sum_of_lanes` is in
    [common.cuh](../minise/ops/cuda/common.cuh), which stands in front of every source.
    """),
            mo.md(
                cuda_of(
                    ("common.cuh", "template <class T> __device__ __forceinline__ T sum_of_lanes"),
                    ("squeeze_excite.cu", "template <int P> __device__ void squeeze_row"),
                )
            ),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Side by side

    Memory comes in pieces of 32 bytes: 8 numbers of four bytes. If the lanes of a warp read 32
    neighbours, four pieces serve them all. If they stand `step` apart, more pieces are fetched, and
    most of each is thrown away.
    """)
    return


@app.cell
def _():
    apart = mo.ui.slider(steps=[1, 2, 4, 8, 16, 32], value=1, label="step", show_value=True)
    apart
    return (apart,)


@app.cell(hide_code=True)
def _(apart):
    _read = np.arange(32) * apart.value
    _pieces = len(np.unique(_read // 8))
    _plot = Plot(0.9)
    _axes = _plot.axes
    _axes.imshow(np.isin(np.arange(1024), _read)[None], aspect="auto", cmap="Blues", vmax=1.3)
    _axes.set_yticks([])
    _axes.set_xticks(range(0, 1025, 256))
    _axes.set_xlabel("place in memory, in numbers; read by the 32 lanes")
    mo.vstack(
        [
            _plot,
            mo.md(
                f"At a step of {apart.value}: pieces fetched {_pieces}, share of them that is used "
                f"{32 / (8 * _pieces):.0%}. This is why a lane takes every 32nd pixel, "
                "and not 32 in a row."
            ),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Count bytes

    A GPU multiplies far more quickly than it reads. An op such as squeeze and excitation does few
    multiplications a pixel, so its time is the bytes that it moves. Count how often arrays of the
    size of $x$ are read or written:

    | pass | read | written |
    |:---|---:|---:|
    | squeeze | x | |
    | scale | x | out |
    | backward: gradient of the gates | dout, x | |
    | backward: gradient of the input | dout | dx |

    The sum over a channel must end before its first pixel can be scaled. So simple kernels read
    $x$ twice, and `dout` too. A kernel that keeps a whole image near, in the memory that a block
    shares, reads each once. This is how it begins,
    [squeeze_excite_tile.cu](../minise/ops/cuda/squeeze_excite_tile.cu):
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(cuda_of(("squeeze_excite_tile.cu", "template <int P> __device__ void forward_image")))
    return


@app.cell
def _():
    N, C, H, W = 128, 64, 32, 32
    speed = mo.ui.slider(500, 5000, step=500, value=2000, label="GB a second", show_value=True)
    speed
    return C, H, N, W, speed


@app.cell(hide_code=True)
def _(C, H, N, W, speed):
    _megabytes = 4 * N * C * H * W / 1e6
    _rows = []
    for _way in ("simple", "tile"):
        _passes = PASSES[SE, _way]
        _least = [passes * _megabytes / speed.value * 1e3 for passes in _passes]
        _times = (f"{one:.0f} µs" for one in _least)
        _rows.append((_way, f"{_passes[0]} + {_passes[1]}", *_times))
    mo.vstack(
        [
            mo.md(f"""
    For {N} images of {C} channels of {H} x {W} pixels, one array has {_megabytes:.0f} MB. At
    {speed.value:,} GB a second these are the shortest times possible. No cleverness in the
    arithmetic can make them less.
    """),
            mo.md(table(["way", "arrays, forward + backward", "forward", "backward"], _rows)),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Tested without a GPU

    `__syncthreads()` in the kernel above is a barrier: no thread of the block goes on before all
    are there. Forget one, and a thread may read what another one has not yet written. It may: on
    most days the order happens to be right.

    Python can play this. A thread is a generator, `yield` is the barrier, and a launch runs the
    threads in any order that we like. The shared memory begins full of NaN, so that what nobody
    wrote cannot pass for a number. Here 8 threads add up 8 numbers, with the barrier and without.
    """)
    return


@app.cell
def _():
    numbers = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])

    def sum_in_block(thread, shared, waits):
        """Do one thread's part of a sum; the result is in shared[0]."""
        shared[thread] = numbers[thread]
        half = len(numbers) // 2
        while half:
            if waits:
                yield  # __syncthreads()
            if thread < half:
                shared[thread] += shared[thread + half]
            half //= 2

    def launch(order, waits):
        """Run a block whose threads take turns in this order, from barrier to barrier."""
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
    return numbers, sums


@app.cell(hide_code=True)
def _(numbers, sums):
    _rows = [(name, f"{right:g}", f"{wrong:g}") for name, (right, wrong) in sums.items()]
    _lucky = [name for name, (right, wrong) in sums.items() if right == wrong]
    mo.vstack(
        [
            mo.md(table(["threads run", "with the barrier", "without"], _rows)),
            mo.md(f"""
    The sum is {numbers.sum():g}. Without the barrier it is right only here: {", ".join(_lucky)}. A
    test that runs one order might have been that one.

    [An emulator](../tests/ops/cuda/emulator.h) does the same to the real sources. A C++ compiler
    builds the `.cu` file for the processor; each CUDA thread is a fiber, which runs until a barrier
    or a shuffle. Every kernel goes through several orders, on awkward shapes, between zones that
    nobody may write, and is compared [with the reference in
    float64](../tests/ops/cuda/test_kernels.py). NVIDIA's compiler, which needs no GPU either,
    [builds each for three generations of chips](../tests/ops/cuda/test_compile.py), and one that
    runs out of registers is refused. And since a test is worth what it catches, [bugs are
    planted](../tests/ops/cuda/test_mutants.py) one by one, missing barriers among them. What this
    cannot show is speed. For that, `minise bench cuda` waits for a GPU; the
    [README](../README.md#on-a-gpu) says what has been measured.
    """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: backward, one warp a channel

    The op is `channel_scale`: $\text{out} = x \cdot s$. Here is its backward as a warp does it,
    for one row after the other: `row` is a channel of an image, `lane` one of 32, and each lane
    takes every 32nd pixel `i`. Fill in what a lane does with a pixel, and how the lanes' sums are
    added.
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
                "One gate serves all pixels: each lane adds up dy * x of its own.",
                "Then each lane of the lower half adds that of the upper half to its own.",
                "lanes[lane] += dy[row, i] * x[row, i]; lanes[:half] += lanes[half : 2 * half]",
            ),
            "ds": ("Lane 0 holds the sum in the end.", "ds[row] = lanes[0]"),
        },
        given=("rows",),
    )
    return (exercise,)


@app.cell(hide_code=True)
def _(exercise):
    answer = exercise.check(channel_scale_backward)
    if mo.app_meta().mode == "script":
        print(answer)
    answer
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## From here to the real thing

    In CUDA the outer loops are gone: `blockIdx` and `threadIdx` say which row and lane a thread
    is. The bodies stay as you wrote them. Compare `dot_row` with your `lanes`, which is $ds$, and
    the kernel around it, which goes on to $dv$:
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(
        cuda_of(
            ("squeeze_excite.cu", "template <int P> __device__ real dot_row"),
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
    ## What to take with you

    - Cut the work so that no two threads write the same place.
    - Let neighbours read neighbours.
    - Add up in a fixed tree.
    - Count the bytes first: they are the time.

    The kernels, in the order in which to read them:
    [squeeze_excite.cu](../minise/ops/cuda/squeeze_excite.cu),
    [squeeze_excite_tile.cu](../minise/ops/cuda/squeeze_excite_tile.cu),
    [block_tail.cu](../minise/ops/cuda/block_tail.cu) (normalisation, gate, shortcut and ReLU
    together), [windows.cu](../minise/ops/cuda/windows.cu) (convolution and pooling). With a GPU,
    `minise train --ops cuda` runs them. Back to the [syllabus](README.md).

    Sources: Harris, *Optimizing Parallel Reduction in CUDA* (NVIDIA); the CUDA C++ programming
    guide.
    """)
    return


if __name__ == "__main__":
    app.run()
