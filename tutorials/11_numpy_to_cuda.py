import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="From NumPy to CUDA")

with app.setup:
    import marimo as mo
    import matplotlib.pyplot as plt
    import numpy as np

    from minise.gradcheck.cases import Case
    from minise.gradcheck.exercise import Exercise
    from minise.lessons import Arrays


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 11. From NumPy to CUDA

    A GPU runs the same small program many thousand times at once. In this lesson you write such
    programs, called kernels, in Python, and run them thread by thread. Nothing here needs a GPU.
    What you learn is how to cut an op into threads, how threads add up numbers together, and why
    one counts bytes instead of multiplications.

    You need: [squeeze and excitation](06_squeeze_and_excitation.py).
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Threads, warps, blocks

    A kernel is the body of a loop whose index is the thread's own number. 32 threads make a
    *warp*: they do the same instruction at the same time. Several warps make a *block*, which has
    some fast memory to share. Blocks know nothing of each other and may run in any order.

    This kernel multiplies every pixel by the gate of its channel. It is the last line of squeeze
    and excitation, and each thread does one pixel.
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
    mo.md(r"""
    ## Adding up together

    The squeeze is a sum over a whole channel, and here threads must work together. A warp takes a
    channel. Each of its lanes adds up every 32nd pixel. Then the lanes add up each other: lane
    $i$ takes the sum of lane $i + 16$, then of $i + 8$, and so on. Five steps for 32 lanes,
    instead of 31. Move the slider and watch how a sum of 8 lanes gets done.
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
    mo.md(r"""
    ## Side by side

    Memory comes in pieces of 128 bytes: 32 numbers of four bytes. If the lanes of a warp read 32
    neighbours, one piece serves them all. If they stand `step` apart, more pieces are fetched,
    and most of each is thrown away.
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
    _pieces = len(np.unique(_read // 32))
    _figure, _axes = plt.subplots(figsize=(6, 1.3), layout="constrained")
    _axes.imshow(np.isin(np.arange(1024), _read)[None], aspect="auto", cmap="Blues", vmax=1.3)
    _axes.set_yticks([])
    _axes.set_xticks(range(0, 1025, 128))
    _axes.set_xlabel("place in memory, in numbers; read by the 32 lanes")
    plt.close(_figure)
    mo.vstack(
        [
            _figure,
            mo.md(
                f"At a step of {apart.value}: pieces fetched {_pieces}, share of them that is used "
                f"{1 / _pieces:.0%}. This is why a lane takes every 32nd pixel, "
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

    The sum over a channel must end before its first pixel can be scaled. So a simple kernel reads
    $x$ twice. One that keeps a whole image near, in the memory that a block shares, reads it
    once.
    """)
    return


@app.cell
def _():
    N, C, H, W = 128, 64, 32, 32
    speed = mo.ui.slider(500, 5000, step=500, value=2000, label="GB a second", show_value=True)
    speed
    return C, H, N, W, speed


@app.cell(hide_code=True)
def _(C, H, N, W, speed):
    _bytes = 4 * N * C * H * W
    _simple, _least = 3 * _bytes, 2 * _bytes
    mo.md(f"""
    For {N} images of {C} channels of {H} x {W} pixels, one array has {_bytes / 1e6:.0f} MB. At
    {speed.value:,} GB a second, forward takes at least {_simple / speed.value / 1e3:.0f} µs the
    simple way (three arrays), and {_least / speed.value / 1e3:.0f} µs with two. No cleverness in
    the arithmetic can make it less.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: backward, one warp a channel

    The op is `channel_scale`: $\text{out} = x \cdot s$. Here is its backward as a warp does it,
    for one row after the other: `row` is a channel of an image, `lane` one of 32, and each lane
    takes every 32nd pixel `i`. Fill in what a lane does with a pixel, and how lanes add up each
    other.
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
        ],
        hints={
            "dx": ("out = x * s: x's factor is the gate of its row.", "dy[row, i] * s[row]"),
            "lanes": (
                "One gate serves all pixels: each lane adds up dy * x of its own.",
                "dy[row, i] * x[row, i]; and then lanes[half : 2 * half], the upper half.",
            ),
            "ds": ("Lane 0 holds the sum in the end.",),
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
    is, and `__shfl_down_sync` hands a number from lane to lane. The body stays as you wrote it.

    - Cut the work so that no two threads write the same place.
    - Let neighbours read neighbours.
    - Add up in a fixed tree.
    - Count the bytes first: they are the time.

    The arithmetic of the op is [squeeze_excite.py](../minise/ops/reference/squeeze_excite.py).
    Back to the [syllabus](README.md).

    Sources: Harris, *Optimizing Parallel Reduction in CUDA* (NVIDIA); the CUDA C++ programming
    guide.
    """)
    return


if __name__ == "__main__":
    app.run()
