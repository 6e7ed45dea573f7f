import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="From seven loops to Winograd")

with app.setup:
    import inspect
    import time
    from html import escape

    import marimo as mo
    import numpy as np

    from minise.bench.ladder import RUNGS
    from minise.bench.ladder_loops import filters_innermost, rows_innermost, seven_loops
    from minise.contract.case import Case
    from minise.grading.exercise import Exercise
    from minise.lessons import Arrays, Plot, python_of, table
    from minise.ops.jit.convolution.rounding import A_T, B_T, G
    from minise.ops.jit.vector.simd import REGISTERS
    from minise.ops.reference.windows import pad, unpad, window, windows_of


@app.cell(hide_code=True)
def _():
    mo.md(rf"""
    # 10. From seven loops to Winograd

    One convolution, written {len(RUNGS)} times. The package has it as a ladder, on which each rung
    adds one reason to be quick. (Which of the middle ones wins depends on the shapes.) All add up
    the same products, but the last one, which does not need them all. In this lesson you climb the
    ladder, measure it on your machine, and compute the trick of its last rung by hand.

    You need: [convolution](03_convolution.py).
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The definition: seven loops

    For each image, filter, row and column of the output: for each channel, row and column of the
    filter, add a product. This is the first rung, as it stands in the package:
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(python_of(seven_loops))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    In Python every turn of the innermost loop is a trip through the interpreter, which looks up,
    unpacks and boxes each number. The multiplication is lost in it. The second rung is the same
    source, compiled by Numba.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What a processor can do at once

    Compiled, the seven loops still do one product at a time. Look at `total`: each addition needs
    the one before, and to add in another order would round otherwise, so the compiler must not.
    Sums that do *not* wait for each other can go together: one instruction multiplies and adds a
    whole vector of 8 or 16 numbers. So put a loop over different sums innermost. There are two
    candidates, the pixels of a row and the filters:
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(python_of(rows_innermost, filters_innermost))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    The second one has channels last in memory. Its sums are the few vectors of one pixel, which
    stay near the arithmetic for all products; in the first one a whole row of sums is fetched and
    stored once a product.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Every number loaded, used often

    What is left to win is loading. A processor has a handful of *registers*, places for one vector
    each, and can multiply only what stands in them. Keep the sums of several pixels (`rows`) times
    several vectors of filters there. Each step loads one number for every row and one vector for
    every vector of filters, and each of them meets all of the others. Move the sliders.
    """)
    return


@app.cell
def _():
    tile_rows = mo.ui.slider(1, 14, value=8, label="rows", show_value=True)
    tile_vectors = mo.ui.slider(1, 4, value=2, label="vectors", show_value=True)
    mo.vstack([tile_rows, tile_vectors])
    return tile_rows, tile_vectors


@app.cell(hide_code=True)
def _(tile_rows, tile_vectors):
    _loads = tile_rows.value + tile_vectors.value
    _products = tile_rows.value * tile_vectors.value
    _places = _products + tile_vectors.value + 1  # the sums, the filters, one pixel at a time
    _fit = "fits" if _places <= REGISTERS else "does not fit: sums would be stored and loaded again"
    mo.md(f"""
    {_loads} loads for {_products} multiply-adds of whole vectors, {_products / _loads:.2f} a load.
    It takes {_places} registers. This machine has {REGISTERS}, so it {_fit}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    A matrix product by BLAS is made of such tiles. That is why the rungs that turn a convolution
    into matrix products, nine of them or one, are quick at once. The rung *register_tiles* does
    without the copies that they need.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The ladder

    Open a rung to read what makes it quick, and what it waits for.
    """)
    return


@app.cell(hide_code=True)
def _():
    def _unfolding(rung):
        first, *rest = inspect.getdoc(rung.forward).split("\n\n")
        rest = "".join(f"<p>{escape(part)}</p>" for part in rest)
        title = f"<summary><code>{rung.name}</code> {escape(first)}</summary>"
        return f"<details>{title}<div style='margin-left:1em'>{rest}</div></details>"

    mo.Html("".join(map(_unfolding, RUNGS)))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Measure

    Here are the rungs that need no compiler. Tick the box for the others; to compile them takes a
    while.
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
    _head = ["rung", "ms", "ns a product", "off by"]
    _rows = []
    for _name, _took in seconds.items():
        _apart = np.max(abs(results[_name] - _first)) / _size
        _rows.append((_name, f"{1e3 * _took:,.2f}", f"{1e9 * _took / macs:,.3g}", f"{_apart:.0e}"))
    _times = seconds["python_loops"] / min(seconds.values())
    mo.vstack(
        [
            mo.md(table(_head, _rows)),
            mo.md(f"""
    {macs:,} products. From the slowest to the quickest of these: {_times:,.0f} times. The results
    are off those of the first by rounding only, as sums in another order are. Measured once, on a
    small image, these numbers sway; `minise bench conv-ladder` takes a stage of a real net, and
    medians.
    """),
        ]
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
    image, those over $d$ once for all filters. What remains for each pair of four pixels and a
    filter are the four products.
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
    ## Where it comes from

    Multiply a polynomial with the coefficients $g_0, g_1, g_2$ by one with $t$ coefficients. That
    is a linear map $T$ from $t$ numbers to $t + 2$, and if you write down its matrix, you see that
    the transposed one is our correlation, from $t + 2$ pixels to $t$ results.

    A polynomial is known from its values at as many places as it has coefficients. So take the
    values of both factors ($A$ and $G$ are tables of powers), multiply value by value, and go back
    to coefficients by a third matrix $B$. This is $T = B \, \text{diag}(G g) \, A$. Transposed:

    $$ y = T^T d = A^T \big[ (G g) \cdot (B^T d) \big] $$

    The way back is Lagrange's. The product has the values $p(a)$ at the places $a$, and one place
    is infinity, where the value is the leading coefficient $p_\infty$:

    $$ p(z) = \sum_a p(a) \prod_{b \ne a} \frac{z - b}{a - b} \; + \; p_\infty \prod_a (z - a) $$

    The coefficients of the products over $z - b$ are the columns of $B$. The divisors $a - b$ go
    into $G$ (`apart` in the code), where they are paid for once a filter. Above, the places are
    0, 1, -1 and infinity (up to two signs, which cancel). The function below makes the three
    matrices from a list of places. For $t = 4$ they are those that train.
    """)
    return


@app.function
def matrices(places):
    """Return A.T, G and B.T of a filter of three; infinity is added to the places."""
    n = len(places) + 1
    powers = np.array([[place**k for k in range(n)] for place in places])
    apart = np.array([np.prod([a - b for b in places if b != a]) for a in places])
    without = [np.poly([b for b in places if b != a])[::-1] for a in places]  # lowest power first
    b_t = np.array([*(np.append(row, 0) for row in without), np.poly(places)[::-1]])
    g = np.vstack([powers[:, :3] / apart[:, None], [0, 0, 1]])
    a_t = np.vstack([powers[:, : n - 2], np.eye(n - 2)[-1]]).T
    return a_t, g, b_t


@app.cell
def _():
    PLACES = [0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 4.0, -4.0]
    a_t, filters_in, b_t = matrices(PLACES[:5])
    assert np.allclose(a_t, A_T)
    assert np.allclose(filters_in, G)
    assert np.allclose(b_t, B_T)
    Arrays(2, B_T=b_t, G=filters_in, A_T=a_t)
    return (PLACES,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## How large a tile?

    Along rows and columns at once, a tile of $t \times t$ results of a 3 x 3 filter takes $(t +
    2)^2$ products instead of $9 t^2$. Larger tiles save more. But powers of the places grow, and
    what cancels in the end has cost digits. Here are both: what such a tile saves, and the error
    along one row in float32.
    """)
    return


@app.cell
def _():
    tile = mo.ui.slider(1, 8, value=4, label="tile t", show_value=True)
    tile
    return (tile,)


@app.cell
def _(PLACES):
    def worst_error(t):
        """Return how far float32 takes a tile of t results from the exact ones, relatively."""
        rng = np.random.default_rng(0)
        d, g = rng.standard_normal((1000, t + 2)), rng.standard_normal((1000, 3))
        a_t, g_in, b_t = (one.astype(np.float32) for one in matrices(PLACES[: t + 1]))
        rounded, taps = d.astype(np.float32), g.astype(np.float32)
        y = ((taps @ g_in.T) * (rounded @ b_t.T)) @ a_t.T
        pairs = zip(rounded.astype(float), taps.astype(float), strict=True)
        exact = np.array([np.correlate(one, other) for one, other in pairs])
        return float(np.max(abs(y - exact)) / np.max(abs(exact)))

    tiles = np.arange(1, 9)
    saved = 9 * tiles**2 / (tiles + 2) ** 2
    lost = np.array([worst_error(t) for t in tiles])
    return lost, saved, tiles


@app.cell(hide_code=True)
def _(lost, saved, tile, tiles):
    _plot = Plot(2.2, columns=2)
    for _axes, _values in zip(_plot.axes, (saved, lost), strict=True):
        _axes.plot(tiles, _values, "o-")
        _axes.axvline(tile.value, color="0.7", zorder=0)
        _axes.set_xlabel("tile t")
    _plot.axes[0].set_title("times fewer products", fontsize=10)
    _plot.axes[1].set_title("largest error, relative", fontsize=10)
    _plot.axes[1].set_yscale("log")
    _few, _many = (tile.value + 2) ** 2, 9 * tile.value**2
    _k = tile.value - 1
    mo.vstack(
        [
            _plot,
            mo.md(
                f"t = {tile.value}: {_few} products instead of {_many}, {saved[_k]:.2f} times "
                f"fewer, and an error of {lost[_k]:.0e}, {lost[_k] / lost[0]:.1f} times that of "
                f"t = 1. Our compiled back end takes t = {len(A_T)}."
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
            Case("conv2d", dict(N=2, C=4, H=6, W=7, K=5, KH=2, KW=3), dict(padding=(1, 0))),
        ],
        hints={
            "dfilters": (
                "dout is (N, K, OH, OW), cols (N, C, KH * KW, OH, OW): sum over images, windows.",
                "With nkpq and ncopq as their axes, the result is kco.",
                'dfilters = np.einsum("nkpq,ncopq->kco", dout, cols)',
            ),
            "dcols": (
                "filters is (K, C, KH * KW), dout is (N, K, OH, OW): sum over the filters.",
                "With kco and nkpq as their axes, the result is ncopq.",
                'dcols = np.einsum("kco,nkpq->ncopq", filters, dout)',
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

    - First leave the interpreter, then fill the processor's vectors with sums that do not wait for
      each other, then use often what was loaded.
    - A matrix product by BLAS does all of that. Copying every window makes one of a convolution.
    - Fewer products are possible, at the price of digits.
    - The rungs are [ladder.py](../minise/bench/ladder.py). The last two are what trains:
      [tile.py](../minise/ops/jit/vector/tile.py) and
      [direct.py](../minise/ops/jit/convolution/direct.py), and
      [transforms.py](../minise/ops/jit/convolution/transforms.py) and
      [winograd.py](../minise/ops/jit/convolution/winograd.py), whose rounding
      [rounding.py](../minise/ops/jit/convolution/rounding.py) bounds.

    Next: [from NumPy to CUDA](11_numpy_to_cuda.py).

    Sources: Chellapilla, Puri and Simard, *High Performance Convolutional Neural Networks for
    Document Processing* (2006), for the copied windows; Goto and van de Geijn, *Anatomy of
    High-Performance Matrix Multiplication*, ACM TOMS 34 (2008); Winograd, *Arithmetic Complexity of
    Computations* (1980); Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*,
    arXiv:1509.09308.
    """)
    return


if __name__ == "__main__":
    app.run()
