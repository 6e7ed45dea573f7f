import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Pooling and ties")

with app.setup:
    import marimo as mo
    import numpy as np

    from minise import data
    from minise.contract.case import Case
    from minise.grading.exercise import Exercise
    from minise.lessons import Arrays, Question, Task, by_gradients, judged, show
    from minise.ops import reference as ops
    from minise.pictures import max_pool_routes
    from minise.walk import trace


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 4. Pooling and ties

    A pooling layer makes an image smaller: it replaces each window by its mean or its maximum.
    There are no weights and hardly any arithmetic. Still, two mistakes are common in its backward.
    This lesson shows both, on numbers and on images.

    You need: [windows](?file=03_convolution.py), as in a convolution.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Mean and maximum

    Take 2 x 2 windows that do not overlap, and pool each of them in both ways.
    """)
    return


@app.cell(hide_code=True)
def _():
    _x = np.array([[[[1.0, 5.0, 0.0, 2.0], [3.0, 2.0, 4.0, 3.0]]]])
    _counts = {}
    for _way, _name in (("mean", "avg_pool2d"), ("maximum", "max_pool2d")):
        _out, _cache = getattr(ops, f"{_name}_forward")(_x, kernel=(2, 2))
        (_dx,) = getattr(ops, f"{_name}_backward")(np.array([[[[1.0, 10.0]]]]), _cache)
        _counts[_way] = np.count_nonzero(_dx)
    show(
        Question(
            """
            An image of 2 x 4 pixels is pooled in two windows. How many of its 8 pixels get a
            gradient from the mean, and how many from the maximum?
            """,
            f"""
            {_counts["mean"]} from the mean, a quarter of `dout` each; {_counts["maximum"]} from the
            maximum, one in each window, which gets all of `dout`. A small change of any other pixel
            does not change the maximum: rule four of [lesson 1](?file=01_chain_rule.py), selection.
            """,
        )
    )
    return


@app.cell
def _():
    x = np.array([[[[1.0, 5.0, 0.0, 2.0], [3.0, 2.0, 4.0, 3.0]]]])  # N, C, H, W = 1, 1, 2, 4
    dout = np.array([[[[1.0, 10.0]]]])

    mean, mean_cache = ops.avg_pool2d_forward(x, kernel=(2, 2))
    largest, largest_cache = ops.max_pool2d_forward(x, kernel=(2, 2))
    (dmean,) = ops.avg_pool2d_backward(dout, mean_cache)
    (dlargest,) = ops.max_pool2d_backward(dout, largest_cache)
    Arrays(2, x=x, mean=mean, dx_of_mean=dmean, maximum=largest, dx_of_maximum=dlargest)
    return dlargest, dmean, dout, mean, x


@app.cell(hide_code=True)
def _(dlargest, dmean, dout, mean, x):
    _first = x[0, 0, :, :2].ravel()
    mo.md(f"""
    By hand: ({" + ".join(f"{v:g}" for v in _first)}) / 4 = {mean[0, 0, 0, 0]:g}, and each pixel
    gets {dout[0, 0, 0, 0]:g} / 4 = {dmean[0, 0, 0, 0]:g} back. The maximum is {_first.max():g};
    its pixel gets {dlargest[0, 0, :, :2].max():g}. In both cases `dx` adds up to the sum of
    `dout`, {dout.sum():g}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The first mistake: windows that overlap

    With a stride smaller than the kernel, windows overlap, and a pixel may be the maximum of
    several windows.
    """)
    return


@app.cell(hide_code=True)
def _():
    _image = np.array([[[[0.0, 1.0, 0.0, 2], [1, 9, 1, 0], [3, 0, 5, 1]]]])
    _out, _cache = ops.max_pool2d_forward(_image, kernel=(2, 2), stride=(1, 1))
    (_dx,) = ops.max_pool2d_backward(np.ones(_out.shape), _cache)
    show(
        Question(
            f"""
            2 x 2 windows at stride 1, on the image {_image[0, 0].astype(int).tolist()}. `dout` is 1
            for all {_out.size} windows. What is the gradient of the 9?
            """,
            f"""
            {_dx[0, 0, 1, 1]:g}: it is the maximum of {_dx[0, 0, 1, 1]:g} windows, and each of them
            sends its 1. A backward that assigns, `dx[i, j] = …`, keeps only the last of these, and
            says 1. With `+=` the gradients of all windows are added.
            """,
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    For a `dout` of ones, `dx` counts for each pixel the windows in which it is the maximum.
    """)
    return


@app.cell
def _():
    stride = mo.ui.slider(1, 3, value=1, label="stride", show_value=True)
    stride
    return (stride,)


@app.cell
def _(stride):
    image = np.array([[[[0.0, 1.0, 0.0, 2], [1, 9, 1, 0], [3, 0, 5, 1]]]])
    wins, wins_cache = ops.max_pool2d_forward(
        image, kernel=(2, 2), stride=(stride.value, stride.value)
    )
    (times,) = ops.max_pool2d_backward(np.ones(wins.shape), wins_cache)
    Arrays(0, x=image, maximum=wins, windows_won=times)
    return image, times, wins


@app.cell(hide_code=True)
def _(image, stride, times, wins):
    mo.md(f"""
    Windows at stride {stride.value}: {wins.size}. The {image.max():.0f} is the maximum of
    {times[0, 0, 1, 1]:.0f} of them. With `=` instead of `+=` its gradient
    would be {min(times[0, 0, 1, 1], 1):.0f}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The second mistake: ties

    What if two pixels are both the maximum? With random real numbers a tie is very unlikely. But
    pooling often follows a ReLU. Eight random filters and a ReLU, on images of the built-in data
    set, followed by 2 x 2 windows:
    """)
    return


@app.cell
def _():
    images = data.shapes10("train", n=32).images / 255.0
    rng = np.random.default_rng(0)
    filters = rng.standard_normal((8, 3, 3, 3))
    feature, _ = ops.conv2d_forward(images - images.mean(), filters, padding=(1, 1))
    feature, _ = ops.relu_forward(feature)
    pooled, pooled_cache = ops.max_pool2d_forward(feature, kernel=(2, 2))
    spread_out = pooled.repeat(2, axis=2).repeat(2, axis=3)
    winners = (feature == spread_out).reshape(32, 8, 16, 2, 16, 2).sum(axis=(3, 5))
    tied = winners > 1
    off = tied & (pooled == 0)  # all four pixels are zero after the ReLU

    dpooled = np.ones(pooled.shape)
    (right,) = ops.max_pool2d_backward(dpooled, pooled_cache)
    wrong = (feature == spread_out) * dpooled.repeat(2, axis=2).repeat(2, axis=3)
    return dpooled, off, right, tied, winners, wrong


@app.cell(hide_code=True)
def _(off, tied, winners):
    show(
        Question(
            f"""
            In how many of the {winners.size:,} windows are two or more pixels the maximum?
            """,
            f"""
            In {tied.mean():.0%} of them. {off.sum() / tied.sum():.0%} of the ties are windows in
            which ReLU has set all four pixels to zero: neighbouring pixels are off together.
            """,
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    At a tie the maximum has no derivative, but one fact remains: if all tied pixels grow by $h$,
    the maximum grows by $h$. So their gradients must add up to the gradient of the maximum. A
    backward that compares, `x == maximum`, gives the full gradient to each tied pixel. Ours gives
    it to the first one. How much does it matter on these images?
    """)
    return


@app.cell(hide_code=True)
def _(dpooled, right, tied, winners, wrong):
    mo.md(f"""
    `dx` should add up to the sum of `dout`, {dpooled.sum():,.0f}, one for each of the
    {winners.size:,} windows. Ours does: {right.sum():,.0f}. With the comparison it is
    {wrong.sum():,.0f}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md("Overlap and a tie in one picture, forward above and backward below:"),
            max_pool_routes(),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The whole image as one window

    The last pooling of a net has one window as large as the image: `global_avg_pool2d`. Each pixel
    gets `dout / (H W)`. The squeeze of squeeze and excitation is the same mean.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: the backward of max pooling

    `argmax` is (N, C, OH, OW) and contains, for each window, the flat index of its maximum in the
    image, counted row by row: `i * W + j`. The numbers of this exercise are small integers, so
    there are ties, and windows overlap.
    """)
    return


@app.function
def max_pool2d_backward(dout, cache):
    x, argmax, *_ = cache
    W = x.shape[3]
    dx = np.zeros(x.shape)
    for n, c, p, q in np.ndindex(*dout.shape):
        i, j = ...
        dx[n, c, i, j] += ...
    return dx


@app.cell(hide_code=True)
def _():
    exercise = Exercise(
        [
            Case("max_pool2d", dict(N=1, C=1, H=1, W=2), dict(kernel=(1, 2))),
            Case("max_pool2d", dict(N=1, C=1, H=2, W=3), dict(kernel=(2, 2), stride=(1, 1))),
            Case(
                "max_pool2d",
                dict(N=2, C=3, H=4, W=5),
                dict(kernel=(3, 2), stride=(1, 2), padding=(1, 0)),
            ),
        ],
        hints={
            "i": (
                "Row and column from i * W + j.",
                "i, j = divmod(argmax[n, c, p, q], W)",
            ),
            "dx": (
                "The maximum gets the gradient of its window.",
                "dout[n, c, p, q], added: another window may have the same maximum.",
                "dx[n, c, i, j] += dout[n, c, p, q]",
            ),
        },
        given=("W",),
        integers=True,
    )
    return (exercise,)


@app.cell(hide_code=True)
def _(exercise):
    judged(exercise, max_pool2d_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Task: a pooling between mean and maximum

    The root mean square counts large pixels more than the mean does, and less than the maximum:
    `out[n, c] = sqrt(mean of x[n, c]**2)` over all pixels of a channel. Write the whole backward.
    `x` is (N, C, H, W), `out` and `dout` are (N, C), the cache is `x, out`; return `dx`. Which
    rules of [lesson 1](?file=01_chain_rule.py) do you need?
    """)
    return


@app.function
def rms_pool_backward(dout, cache):
    """Return dx of out = sqrt(mean(x ** 2)), the mean over the axes (2, 3)."""
    ...


@app.cell(hide_code=True)
def _():
    def rms_pool(x):
        """Return out and the cache."""
        out = np.sqrt((x**2).mean(axis=(2, 3)))
        return out, (x, out)

    task = Task(
        by_gradients(
            rms_pool, [np.random.default_rng(0).standard_normal((2, 3, 4, 5))], names=["x"]
        ),
        hints=(
            "Name the steps: square = x**2, mean = square.mean(axis=(2, 3)), out = sqrt(mean).",
            "The derivative of a root is 1 / (2 * root): dmean = dout / (2 * out).",
            "Each pixel gets a share of 1 / (H * W) of dmean, then the square's factor 2 * x.",
        ),
        solution="""
            def rms_pool_backward(dout, cache):
                x, out = cache
                H, W = x.shape[2:]
                dmean = dout / (2 * out)
                dsquare = dmean[:, :, None, None] / (H * W)
                dx = dsquare * 2 * x
                return dx
        """,
    )
    return (task,)


@app.cell(hide_code=True)
def _(task):
    judged(task, rms_pool_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Every number

    The training code on the numbers of this lesson.
    """)
    return


@app.cell
def _(dout, x):
    trace("max_pool2d", [x], dout, kernel=(2, 2))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Summary

    - The gradient of a mean goes to all pixels in equal shares, the gradient of a maximum to one
      pixel.
    - If windows overlap, add. If pixels tie, choose one. The sum of `dx` shows both mistakes: it
      must equal the sum of `dout`.
    - Padding must never be the maximum, also in an image of negative numbers. Our padding is minus
      infinity.
    - The training code is in `minise/ops/reference/pool.py`.

    Next: [batch normalisation](?file=05_batch_norm.py).

    Source: the assignments of Stanford's course CS231n, which warn about ties.
    """)
    return


if __name__ == "__main__":
    app.run()
