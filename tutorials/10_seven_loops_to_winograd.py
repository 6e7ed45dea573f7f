import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="From seven loops to Winograd")

with app.setup:
    import time

    import marimo as mo
    import matplotlib.pyplot as plt
    import numpy as np

    from minise.bench.ladder import RUNGS
    from minise.gradcheck.cases import Case
    from minise.gradcheck.exercise import Exercise
    from minise.lessons import Arrays
    from minise.ops.reference.windows import pad, unpad, window, windows_of


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 10. From seven loops to Winograd

    One convolution, written ten times. Every rung of this ladder adds up the same products, and
    is quicker than the one before for one reason. The last one does not even need all the
    products. In this lesson you climb the first rungs, measure them on your machine, and compute
    the trick of the last one by hand.

    You need: [convolution](03_convolution.py).
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The definition: seven loops

    For each image, filter, row and column of the output: for each channel, row and column of the
    filter, add a product. In Python every product is a trip through the interpreter, which costs
    hundreds of instructions for one multiplication. These are the rungs, and the first line of
    each docstring:
    """)
    return


@app.cell(hide_code=True)
def _():
    _rows = [f"| {rung.name} | {rung.forward.__doc__.splitlines()[0]} |" for rung in RUNGS]
    mo.md("| rung | what it does |\n|:---|:---|\n" + "\n".join(_rows))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Measure

    Here are the rungs that need no compiler. Tick the box for the others: compiling may take a
    minute, once per machine.
    """)
    return


@app.cell
def _():
    with_compiled = mo.ui.checkbox(label="compiled rungs too")
    with_compiled
    return (with_compiled,)


@app.cell
def _(with_compiled):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 16, 8, 8), np.float32)
    weight = rng.standard_normal((16, 16, 3, 3), np.float32)
    macs = 16 * 16 * 3 * 3 * 8 * 8  # multiply-accumulates
    plain = ("python_loops", "shifted_products", "im2col_product")

    seconds, results = {}, {}
    for rung in RUNGS:
        if not with_compiled.value and rung.name not in plain:
            continue
        given = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        given = given if rung.channels_last else x
        settings = dict(stride=(1, 1), padding=(1, 1), threads=1)
        if rung.name != "python_loops":
            rung.forward(given, weight, **settings)  # once to warm up, or to compile
        started = time.perf_counter()
        results[rung.name] = rung.forward(given, weight, **settings)
        seconds[rung.name] = time.perf_counter() - started
    return macs, results, seconds


@app.cell(hide_code=True)
def _(macs, results, seconds):
    _first = results["python_loops"]
    _size = np.max(abs(_first))
    _rows = [
        f"| {name} | {1e3 * took:,.2f} | {macs / took / 1e6:,.0f} | "
        f"{np.max(abs(results[name] - _first)) / _size:.0e} |"
        for name, took in seconds.items()
    ]
    _table = "| rung | ms | million MACs a second | apart from the first |\n|:---|---:|---:|---:|\n"
    _times = seconds["python_loops"] / min(seconds.values())
    mo.md(
        _table
        + "\n".join(_rows)
        + f"""

    From the slowest to the quickest of these: {_times:,.0f} times. The results differ by rounding
    only, as sums in another order do.
    """
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Fewer products: Winograd by hand

    A filter of three numbers $g$ slides over four pixels $d$ and gives two results:

    $$
    \begin{aligned}
    y_0 &= d_0 g_0 + d_1 g_1 + d_2 g_2\\
    y_1 &= d_1 g_0 + d_2 g_1 + d_3 g_2
    \end{aligned}
    $$

    Six products. Four are enough:

    $$
    \begin{aligned}
    m_0 &= (d_0 - d_2)\, g_0\\
    m_1 &= (d_1 + d_2)\, (g_0 + g_1 + g_2) / 2\\
    m_2 &= (d_2 - d_1)\, (g_0 - g_1 + g_2) / 2\\
    m_3 &= (d_1 - d_3)\, g_2\\
    y_0 &= m_0 + m_1 + m_2, \quad y_1 = m_1 - m_2 - m_3
    \end{aligned}
    $$

    Multiply it out once and see the terms cancel. The sums over $g$ are made once for a whole
    image, those over $d$ once for all filters. What remains for each pair of pixel and filter are
    the four products.
    """)
    return


@app.cell
def _():
    d, g = np.array([1.0, 2.0, 0.0, 4.0]), np.array([3.0, 1.0, -1.0])
    points = np.array([d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]])
    taps = np.array([g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2, g[2]])
    m = points * taps
    y = np.array([m[0] + m[1] + m[2], m[1] - m[2] - m[3]])
    assert np.array_equal(y, np.correlate(d, g))
    Arrays(1, d=d, g=g, points=points, taps=taps, products=m, y=y)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## How large a tile?

    Along rows and columns at once, a tile of $t \times t$ results of a 3 x 3 filter takes $(t +
    2)^2$ products instead of $9 t^2$. Larger tiles save more. But the sums on the way have larger
    factors, and what cancels in the end has cost digits. Our compiled back end takes $t = 4$.
    """)
    return


@app.cell
def _():
    tile = mo.ui.slider(1, 8, value=4, label="tile t", show_value=True)
    tile
    return (tile,)


@app.cell(hide_code=True)
def _(tile):
    _t = np.arange(1, 9)
    _figure, _axes = plt.subplots(figsize=(5, 2.4), layout="constrained")
    _axes.plot(_t, 9 * _t**2 / (_t + 2) ** 2, "o-")
    _axes.axvline(tile.value, color="0.7", zorder=0)
    _axes.set_xlabel("tile t")
    _axes.set_ylabel("times fewer products")
    _axes.spines[["top", "right"]].set_visible(False)
    plt.close(_figure)
    _few, _many = (tile.value + 2) ** 2, 9 * tile.value**2
    mo.vstack(
        [
            _figure,
            mo.md(
                f"t = {tile.value}: {_few} products instead of {_many}, "
                f"{_many / _few:.2f} times fewer."
            ),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: backward by one large product

    The rung *im2col_product* copies every window into a column, so that one product does it all.
    Write its backward. `cols` is (N, C, KH * KW, OH, OW): the pixel at each offset of each
    window. `dcols` has the same shape, and what is given below adds it back to the image.
    `filters` is (K, C, KH * KW).
    """)
    return


@app.function
def conv2d_backward(dout, cache):
    x, weight, bias, stride, padding, *_ = cache
    where = windows_of(x.shape[2:], weight.shape[2:], stride, padding)
    padded = pad(x, where)
    filters = weight.reshape(*weight.shape[:2], -1)
    cols = np.stack([window(padded, where, i, j) for i, j in where.offsets()], axis=2)
    dbias = dout.sum(axis=(0, 2, 3))
    dfilters = ...
    dcols = ...
    dweight = dfilters.reshape(weight.shape)
    dpadded = np.zeros(padded.shape)
    for place, (i, j) in enumerate(where.offsets()):
        window(dpadded, where, i, j)[...] += dcols[:, :, place]
    dx = unpad(dpadded, where)
    return dx, dweight, dbias


@app.cell(hide_code=True)
def _():
    exercise = Exercise(
        [
            Case("conv2d", dict(N=1, C=1, H=1, W=3, K=1, KH=1, KW=2)),
            Case("conv2d", dict(N=2, C=2, H=4, W=3, K=3, KH=2, KW=2), dict(padding=(1, 0))),
        ],
        hints={
            "dfilters": (
                "dout is (N, K, OH, OW), cols (N, C, KH * KW, OH, OW): sum over images, windows.",
                'np.einsum("nkpq,ncopq->kco", dout, cols)',
            ),
            "dcols": (
                "filters is (K, C, KH * KW), dout is (N, K, OH, OW): sum over the filters.",
                'np.einsum("kco,nkpq->ncopq", filters, dout)',
            ),
        },
        given=("where", "padded", "filters", "cols", "dbias", "dweight"),
    )
    return (exercise,)


@app.cell(hide_code=True)
def _(exercise):
    answer = exercise.check(conv2d_backward)
    if mo.app_meta().mode == "script":
        print(answer)
    answer
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What to take with you

    - First leave the interpreter, then keep the processor's vectors full, then keep what was
      loaded.
    - A matrix product by BLAS does all of that. Copying every window makes one of a convolution.
    - Fewer products are possible, at the price of digits.
    - The rungs are [ladder.py](../minise/bench/ladder.py), and `minise bench conv-ladder` times
      all of them. The last two are what trains: [direct.py](../minise/ops/jit/direct.py) and
      [winograd.py](../minise/ops/jit/winograd.py), with the bound of its rounding in
      [rounding.py](../minise/ops/jit/rounding.py).

    Next: [from NumPy to CUDA](11_numpy_to_cuda.py).

    Source: Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*, arXiv:1509.09308.
    """)
    return


if __name__ == "__main__":
    app.run()
