import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Convolution")

with app.setup:
    import marimo as mo
    import numpy as np

    from minise import data, pictures
    from minise.contract.case import Case
    from minise.grading.exercise import Exercise
    from minise.lessons import Arrays, Plot, Question, Task, by_gradients, judged, show
    from minise.ops import reference as ops
    from minise.ops.reference.windows import pad, unpad, window, windows_of
    from minise.walk import trace


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 3. Convolution: nine matrix products, and its two gradients

    A convolution slides a small filter over an image. If forward is written as seven loops, the
    indices of backward are hard to get right. If forward is one matrix product for each offset of
    the filter, backward is the backward of the linear layer, nine times. Our reference is written
    like this.

    You need: [the linear layer](?file=02_linear.py).
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## By hand

    A 2 x 2 filter on a 3 x 3 image. In every window, multiply pixel by pixel and add. (The filter
    is not flipped. Mathematicians call this a correlation.)
    """)
    return


@app.cell
def _():
    x = np.array([[[[1.0, 2.0, 0.0], [0.0, 1.0, 3.0], [4.0, 0.0, 1.0]]]])  # N, C, H, W = 1, 1, 3, 3
    weight = np.array([[[[1.0, 0.0], [2.0, -1.0]]]])  # K, C, KH, KW = 1, 1, 2, 2

    out, cache = ops.conv2d_forward(x, weight)
    Arrays(0, x=x, weight=weight, out=out)
    return cache, out, weight, x


@app.cell(hide_code=True)
def _(out, weight, x):
    _terms = [f"{x[0, 0, i, j]:g} · ({weight[0, 0, i, j]:g})" for i in range(2) for j in range(2)]
    mo.md(f"""
    The first number of `out` is {" + ".join(_terms)} = {out[0, 0, 0, 0]:g}. There are
    {out.shape[2]} x {out.shape[3]} windows, so `out` is {out.shape[2]} x {out.shape[3]}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Offset by offset, not window by window

    Take one offset $(i, j)$ of the filter. The pixels at this offset in all windows are a shifted
    image. The contribution of this offset to the convolution is that image times one number:
    """)
    return


@app.cell
def _(out, weight, x):
    shifted = {f"offset_{i}{j}": x[0, 0, i : i + 2, j : j + 2] for i in range(2) for j in range(2)}
    total = sum(weight[0, 0, i, j] * shifted[f"offset_{i}{j}"] for i in range(2) for j in range(2))
    assert np.array_equal(total, out[0, 0])
    Arrays(0, **shifted, sum_with_weights=total)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    With $C$ input channels and $K$ filters, the number becomes a $K \times C$ matrix. Let
    $\text{window}(i, j)$ be the shifted image as a matrix, too: a row for each channel, a column
    for each window. Then `out` has a row for each filter, and

    $$ \text{out} = \sum_{i, j} \text{weight}_{:,:,i,j} \; @ \; \text{window}(i, j) $$

    A 3 x 3 filter gives nine products. Stride and padding only change which pixels `window`
    contains. A bias is one number for a whole row. And backward is, at each offset, the backward of
    the linear layer (with several images, $d\text{weight}$ is the sum over the images):

    $$
    \begin{aligned}
    d\text{weight}_{:,:,i,j} &= \text{dout} \; @ \; \text{window}(i, j)^T\\
    d\text{window}(i, j) &\mathrel{+}= \text{weight}_{:,:,i,j}^T \; @ \; \text{dout}
    \end{aligned}
    $$

    """)
    return


@app.cell(hide_code=True)
def _(cache, weight):
    _dout = np.array([[[[1.0, 0.0], [0.0, 10.0]]]])
    _dx = ops.conv2d_backward(_dout, cache)[0][0, 0]
    show(
        Question(
            """
            On the example above, let `dout` be 1 for the first window, 10 for the last, and 0 for
            the other two. The pixel in the middle is in all four windows. Which weights does its
            gradient contain?
            """,
            f"""
            Two of the four. The pixel is the last one of the first window, where it is multiplied
            with the last weight, and the first one of the last window, where it meets the first
            weight: 1 · ({weight[0, 0, 1, 1]:g}) + 10 · ({weight[0, 0, 0, 0]:g}) =
            {_dx[1, 1]:g}. Both are added: hence the `+=` in the second line.
            """,
        )
    )
    return


@app.cell
def _(cache):
    dout = np.array([[[[1.0, 0.0], [0.0, 10.0]]]])
    dx, dweight, _ = ops.conv2d_backward(dout, cache)
    Arrays(0, dout=dout, dx=dx, dweight=dweight)
    return dout, dweight, dx


@app.cell(hide_code=True)
def _(dout, dweight, dx, weight, x):
    mo.md(f"""
    The first pixel is in one window only, where it meets the first weight:
    {dout[0, 0, 0, 0]:g} · ({weight[0, 0, 0, 0]:g}) = {dx[0, 0, 0, 0]:g}. The pixel in the middle
    gets {dx[0, 0, 1, 1]:g}, from two windows.
    And the first weight is multiplied with the first pixel of every window: {dout[0, 0, 0, 0]:g} ·
    {x[0, 0, 0, 0]:g} + {dout[0, 0, 1, 1]:g} · {x[0, 0, 1, 1]:g} = {dweight[0, 0, 0, 0]:g}.
    """)
    return


@app.cell(hide_code=True)
def _(dout, dx, weight):
    _padded = np.pad(dout, ((0, 0), (0, 0), (1, 1), (1, 1)))
    _same, _ = ops.conv2d_forward(_padded, weight)
    _flipped, _ = ops.conv2d_forward(_padded, weight[:, :, ::-1, ::-1].copy())
    assert np.array_equal(_flipped, dx)
    show(
        Question(
            """
            `dx` is itself a convolution: pad `dout` with a frame of zeros, and slide a 2 x 2 filter
            over it. Is that filter the `weight` of forward?
            """,
            f"""
            It is `weight` turned by 180°, [[{weight[0, 0, 1, 1]:g}, {weight[0, 0, 1, 0]:g}],
            [{weight[0, 0, 0, 1]:g}, {weight[0, 0, 0, 0]:g}]]: its result equals `dx` exactly. With
            `weight` as it is, the pixel in the middle would get {_same[0, 0, 1, 1]:g} instead of
            {dx[0, 0, 1, 1]:g}. The earlier a window starts before a pixel, the later the weight
            that the pixel meets in it, so seen from the pixel the filter is reversed. The sum over
            offsets needs no reversal: it uses each weight where forward used it.
            """,
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Kernel, stride and padding

    How many windows contain each pixel? The answer is `dx` for a filter of ones and a `dout` of
    ones.
    """)
    return


@app.cell(hide_code=True)
def _():
    _out, _cache = ops.conv2d_forward(np.ones((1, 1, 8, 8)), np.ones((1, 1, 3, 3)), stride=(2, 2))
    _count = ops.conv2d_backward(np.ones(_out.shape), _cache)[0]
    show(
        Question(
            """
            An 8 x 8 image, a 3 x 3 filter, stride 2, no padding. How many of the 64 pixels have
            gradient zero, whatever `dout` is?
            """,
            f"""
            {np.sum(_count == 0)}. There are {_out.shape[2]} x {_out.shape[3]} windows; the last one
            of a row ends at column {2 * (_out.shape[3] - 1) + 3} of 8, counted from 1. So the last
            column and the last row are in no window: 8 + 8 - 1 pixels. That is not a mistake in
            backward; forward never read them.
            """,
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Move the sliders. If the stride leaves a remainder, the last rows and columns are in no
    window. If the stride is larger than the kernel, the pixels between the windows are in no
    window either. Their gradient is zero, and that is correct.
    """)
    return


@app.cell
def _():
    kernel = mo.ui.slider(1, 4, value=3, label="kernel", show_value=True)
    stride = mo.ui.slider(1, 4, value=2, label="stride", show_value=True)
    padding = mo.ui.slider(0, 2, value=0, label="padding", show_value=True)
    mo.vstack([kernel, stride, padding])
    return kernel, padding, stride


@app.cell
def _(kernel, padding, stride):
    ones = np.ones((1, 1, kernel.value, kernel.value))
    seen, seen_cache = ops.conv2d_forward(
        np.ones((1, 1, 8, 8)),
        ones,
        stride=(stride.value, stride.value),
        padding=(padding.value, padding.value),
    )
    Arrays(0, windows_per_pixel=ops.conv2d_backward(np.ones(seen.shape), seen_cache)[0])
    return (seen,)


@app.cell(hide_code=True)
def _(kernel, padding, seen, stride):
    mo.md(f"""
    Number of windows along an axis: (H + 2 · padding - kernel) // stride + 1. Here that is (8 + 2 ·
    {padding.value} - {kernel.value}) // {stride.value} + 1 = {seen.shape[2]}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## A filter on a picture

    One of the built-in images, and the results of the two Sobel filters: differences to the right
    and downward. (The frame around both results is the edge between the image and the padding,
    which is zero.)
    """)
    return


@app.cell
def _():
    picture = data.shapes10("train", n=8).images[:1] / 255.0  # 1, 3, 32, 32
    edges = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 3
    filters = np.stack([np.stack([edges] * 3), np.stack([edges.T] * 3)])  # 2, 3, 3, 3
    responses, _ = ops.conv2d_forward(picture, filters, padding=(1, 1))

    _plot = Plot(1.8, columns=3)
    _axes = _plot.axes
    _axes[0].imshow(picture[0].transpose(1, 2, 0))
    for _k in range(2):
        _axes[_k + 1].imshow(responses[0, _k], cmap="RdBu_r", vmin=-2, vmax=2)
    for _panel, _title in zip(_axes, ("image", "to the right", "downward"), strict=True):
        _panel.set_title(_title)
        _panel.axis("off")
    _plot
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: the backward pass

    `where` contains kernel, stride and padding; `window(padded, where, i, j)` is the pixel at
    offset $(i, j)$ of every window, a view of shape (N, C, OH, OW). `dout` is (N, K, OH, OW).
    `np.einsum` takes a product with named axes: `np.einsum("no,ni->oi", dout, x)` is the linear
    layer's `dout.T @ x`. Axes that are not in the result are summed.
    """)
    return


@app.cell(hide_code=True)
def _():
    pictures.window()
    return


@app.function
def conv2d_backward(dout, cache):
    x, weight, bias, stride, padding, *_ = cache
    where = windows_of(x.shape[2:], weight.shape[2:], stride, padding)
    padded = pad(x, where)
    dweight = np.zeros(weight.shape)
    dpadded = np.zeros(padded.shape)
    dbias = ...
    for i, j in where.offsets():
        seen = window(padded, where, i, j)
        dweight[:, :, i, j] = ...
        dseen = ...
        window(dpadded, where, i, j)[...] += dseen
    dx = unpad(dpadded, where)
    return dx, dweight, dbias


@app.cell(hide_code=True)
def _():
    exercise = Exercise(
        [
            Case("conv2d", dict(N=1, C=1, H=1, W=3, K=1, KH=1, KW=2)),
            Case("conv2d", dict(N=1, C=2, H=3, W=3, K=1, KH=2, KW=2)),
            Case(
                "conv2d",
                dict(N=2, C=4, H=6, W=7, K=5, KH=3, KW=2),
                dict(stride=(2, 1), padding=(1, 0)),
            ),
        ],
        hints={
            "dbias": (
                "All windows of all images use the same bias.",
                "Sum over axes (0, 2, 3).",
                "dbias = dout.sum(axis=(0, 2, 3))",
            ),
            "dweight": (
                "At this offset: dout (N, K, OH, OW) and seen (N, C, OH, OW) give (K, C).",
                "With nkpq and ncpq as their axes, the result is kc: n, p and q are summed.",
                'dweight[:, :, i, j] = np.einsum("nkpq,ncpq->kc", dout, seen)',
            ),
            "dseen": (
                "weight[:, :, i, j] is (K, C), dout is (N, K, OH, OW), dseen (N, C, OH, OW).",
                "With kc and nkpq as their axes, the result is ncpq: k is summed.",
                'dseen = np.einsum("kc,nkpq->ncpq", weight[:, :, i, j], dout)',
            ),
        },
        given=("where", "padded", "seen"),
    )
    return (exercise,)


@app.cell(hide_code=True)
def _(exercise):
    judged(exercise, conv2d_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Task: one axis, without a skeleton

    A sound is a row of numbers. `x` is (L,), `weight` is (K,), and `out[p]` is the sum over $i$ of
    `weight[i] * x[p + i]`, for every $p$ at which the window fits. Write the whole backward, in any
    way: a loop over windows, or over offsets. The cache is `x, weight`; return `dx, dweight`.
    """)
    return


@app.function
def correlate_backward(dout, cache):
    """Return dx and dweight of out[p] = sum over i of weight[i] * x[p + i]."""
    ...


@app.cell(hide_code=True)
def _():
    def correlate(x, weight):
        """Return out and the cache."""
        windows = np.lib.stride_tricks.sliding_window_view(x, len(weight))
        return windows @ weight, (x, weight)

    _rng = np.random.default_rng(0)
    task = Task(
        by_gradients(
            correlate,
            [_rng.standard_normal(7), _rng.standard_normal(3)],
            names=["x", "weight"],
        ),
        hints=(
            "At offset i, forward adds weight[i] * x[i : i + P], where P = len(dout).",
            "So dweight[i] is the sum of dout * x[i : i + P]: one weight, P uses.",
            "And dx[i : i + P] gets dout * weight[i], added, because the windows overlap.",
        ),
        solution="""
            def correlate_backward(dout, cache):
                x, weight = cache
                P = len(dout)
                dx, dweight = np.zeros(x.shape), np.zeros(weight.shape)
                for i in range(len(weight)):
                    dweight[i] = (dout * x[i : i + P]).sum()
                    dx[i : i + P] += dout * weight[i]
                return dx, dweight
        """,
    )
    return (task,)


@app.cell(hide_code=True)
def _(task):
    judged(task, correlate_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Every number

    The training code on the numbers of this lesson. In the step of `dx`, click on the pixel in the
    middle: you see the gradients from the windows that contain it.
    """)
    return


@app.cell
def _(dout, weight, x):
    trace("conv2d", [x, weight, None], dout)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Summary

    - A convolution is one matrix product for each offset of its filter. Backward is the linear
      layer's backward at each offset.
    - If windows overlap, use `+=`. A pixel in no window has gradient zero.
    - `dx` is a convolution of `dout` with the filter turned by 180°.
    - The training code is `minise/ops/reference/conv.py`, with groups and dilation
      too; the views are in `minise/ops/reference/windows.py`.

    Next: [pooling and ties](?file=04_pooling.py). To make a convolution fast: [from seven loops to
    Winograd](?file=10_seven_loops_to_winograd.py).

    Source: Dumoulin and Visin, *A guide to convolution arithmetic for deep learning*,
    arXiv:1603.07285.
    """)
    return


if __name__ == "__main__":
    app.run()
