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
    from minise.lessons import (
        Arrays,
        Plot,
        Question,
        Task,
        by_gradients,
        judged,
        python_of,
        show,
        table,
    )
    from minise.ops.jit.convolution.rounding import A_T, B_T, G
    from minise.ops.jit.vector.simd import REGISTERS
    from minise.ops.reference.windows import pad, unpad, window, windows_of


@app.cell(hide_code=True)
def _():
    mo.md(rf"""
    # 10. From seven loops to Winograd

    This lesson shows {len(RUNGS)} implementations of one convolution. In the package they form a
    ladder: each rung adds one optimisation. (Which of the middle rungs is fastest depends on the
    shapes.) All rungs sum the same products, except the last, which needs fewer. You read the
    rungs, measure them on your machine, and compute the algorithm of the last rung by hand.

    You need: [convolution](?file=03_convolution.py).
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The definition: seven loops

    For each image, filter, row and column of the output: for each channel, row and column of the
    filter, add a product. This is the source code of the first rung:
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(python_of(seven_loops))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    In Python every iteration of the innermost loop runs in the interpreter, which looks up, unboxes
    and boxes each number. The multiplication itself is a tiny part of the time. The second rung is
    the same source, compiled by Numba.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What a processor can do at once

    The compiled loops still compute one product at a time. Look at `total`: each addition needs the
    result of the previous one, and another order would round differently, so the compiler must not
    change the order. Independent sums can be computed together: one instruction multiplies and adds
    a whole vector of 8 or 16 numbers. So the innermost loop should run over different sums. There
    are two candidates, the pixels of a row and the filters:
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(python_of(rows_innermost, filters_innermost))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    The second function has channels last in memory. Its sums are the few vectors of one pixel,
    which stay in registers for all products; in the first function a whole row of sums is loaded
    and stored for every product.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Use every loaded number often

    The remaining cost is loading. A processor has a small number of *registers*, each for one
    vector, and multiplies only numbers in registers. Keep the sums of several pixels (`rows`) times
    several vectors of filters in registers. Each step loads one number per row and one vector per
    vector of filters, and multiplies each number with each vector. Move the sliders.
    """)
    return


@app.cell(hide_code=True)
def _():
    def _per_load(rows, vectors):
        return rows * vectors / (rows + vectors)

    show(
        Question(
            """
    With one row and one vector, a step loads one number and one vector and multiplies once: half a
    multiply-add per load. How many are there per load with 4 rows and 4 vectors? And with 8 rows
    and 2 vectors, the same number of sums: more or fewer?
    """,
            f"""
    4 x 4: {4 * 4} multiply-adds for {4 + 4} loads, {_per_load(4, 4):g} per load. 8 x 2: {8 * 2} for
    {8 + 2}, {_per_load(8, 2):g} per load, so fewer. A square tile is best per load, but it keeps
    more vectors of filters in registers at a time: {4 * 4 + 4 + 1} registers against
    {8 * 2 + 2 + 1}.
    """,
        )
    )
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
    _registers = _products + tile_vectors.value + 1  # the sums, the filters, one pixel at a time
    _fit = "fits" if _registers <= REGISTERS else "does not fit: sums are stored and loaded again"
    mo.md(f"""
    {_loads} loads for {_products} multiply-adds of whole vectors, {_products / _loads:.2f} per
    load. The tile needs {_registers} registers. This machine has {REGISTERS}, so it {_fit}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    BLAS computes a matrix product in such tiles. That is why the rungs that express a convolution
    as nine matrix products, or as one, are fast. The rung *register_tiles* avoids the copies that
    they need.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The ladder

    Open a rung to read what makes it fast, and what limits it.
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

    The table has the rungs that need no compiler. Tick the box for the others; compiling them takes
    a while.
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
        channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        images = channels_last if rung.channels_last else x
        settings = dict(stride=(1, 1), padding=(1, 1), threads=1)
        if rung.name != "python_loops":
            rung.forward(images, weight, **settings)  # the first call compiles
        started = time.perf_counter()
        results[rung.name] = rung.forward(images, weight, **settings)
        seconds[rung.name] = time.perf_counter() - started
    return macs, results, seconds


@app.cell(hide_code=True)
def _(seconds):
    _times = seconds["python_loops"] / np.array(
        [seconds["shifted_products"], seconds["im2col_product"]]
    )
    show(
        Question(
            """
    How many times faster than the loops in Python is NumPy, with nine matrix
    products or one big one, on one thread: 10, 100 or 1000 times?
    """,
            f"""
    Here {_times[0]:,.0f} times with nine products and {_times[1]:,.0f} times with one. All compute
    the same multiplications; the loops spend nearly all of their time in the interpreter.
    """,
        )
    )
    return


@app.cell(hide_code=True)
def _(macs, results, seconds):
    _first = results["python_loops"]
    _size = np.max(abs(_first))
    _head = ["rung", "ms", "ns per product", "relative difference"]
    _rows = []
    for _name, _time in seconds.items():
        _error = np.max(abs(results[_name] - _first)) / _size
        _rows.append((_name, f"{1e3 * _time:,.2f}", f"{1e9 * _time / macs:,.3g}", f"{_error:.0e}"))
    _speed_up = seconds["python_loops"] / min(seconds.values())
    mo.vstack(
        [
            mo.md(table(_head, _rows)),
            mo.md(f"""
    {macs:,} products. The fastest of these rungs is {_speed_up:,.0f} times as fast as the first.
    The results differ from those of the first rung by rounding only, because the sums are in
    another order. Single measurements on a small image vary; `minise bench conv-ladder` measures a
    stage of a real net and reports medians.
    """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Fewer products: Winograd by hand

    A filter of three numbers $g$ slides over four pixels $d$ and produces two results:

    $$
    \begin{aligned}
    y_0 &= d_0 g_0 + d_1 g_1 + d_2 g_2\\
    y_1 &= d_1 g_0 + d_2 g_1 + d_3 g_2
    \end{aligned}
    $$

    These are six products. Four are enough:

    $$
    \begin{aligned}
    m_0 &= (d_0 - d_2)\, g_0\\
    m_1 &= (d_1 + d_2)\, (g_0 + g_1 + g_2) / 2\\
    m_2 &= (d_2 - d_1)\, (g_0 - g_1 + g_2) / 2\\
    m_3 &= (d_1 - d_3)\, g_2\\
    y_0 &= m_0 + m_1 + m_2, \quad y_1 = m_1 - m_2 - m_3
    \end{aligned}
    $$

    Expand the products once and see the terms cancel. The sums over $g$ are computed once for a
    whole image, the sums over $d$ once for all filters. For each pair of four pixels and a filter,
    only the four products remain.
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

    Multiply a polynomial with the coefficients $g_0, g_1, g_2$ by a polynomial with $t$
    coefficients. This is a linear map $T$ from $t$ numbers to $t + 2$. If you write down its
    matrix, you see that its transpose is our correlation, from $t + 2$ pixels to $t$ results.

    A polynomial with $k$ coefficients is determined by its values at $k$ points. So evaluate both
    factors at the points ($A$ and $G$ are tables of powers), multiply the values, and interpolate
    with a third matrix $B$. This is $T = B \, \text{diag}(G g) \, A$. Transposed:

    $$ y = T^T d = A^T \big[ (G g) \cdot (B^T d) \big] $$

    $B$ is Lagrange interpolation. The product has the values $p(a)$ at the points $a$, and one
    point is infinity, where the value is the leading coefficient $p_\infty$:

    $$ p(z) = \sum_a p(a) \prod_{b \ne a} \frac{z - b}{a - b} \; + \; p_\infty \prod_a (z - a) $$

    The coefficients of the products over $z - b$ are the columns of $B$. The divisors $a - b$ go
    into $G$ (`divisors` in the code), so that they are applied once per filter. Above, the points
    are 0, 1, -1 and infinity (up to two signs, which cancel). The function below computes the three
    matrices from a list of points. For $t = 4$ they are the matrices of our compiled back end.
    """)
    return


@app.function
def matrices(finite):
    """Return A.T, G and B.T for a filter of three numbers, the finite points and infinity."""
    n = len(finite) + 1
    powers = np.array([[point**k for k in range(n)] for point in finite])
    divisors = np.array([np.prod([a - b for b in finite if b != a]) for a in finite])
    without = [np.poly([b for b in finite if b != a])[::-1] for a in finite]  # lowest power first
    b_t = np.array([*(np.append(row, 0) for row in without), np.poly(finite)[::-1]])
    g = np.vstack([powers[:, :3] / divisors[:, None], [0, 0, 1]])
    a_t = np.vstack([powers[:, : n - 2], np.eye(n - 2)[-1]]).T
    return a_t, g, b_t


@app.cell(hide_code=True)
def _():
    _as_page = mo.app_meta().mode == "run"  # this mode does not show the code of cells
    mo.md(python_of(matrices)) if _as_page else None
    return


@app.cell
def _():
    POINTS = [0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 4.0, -4.0]
    a_t, filters_in, b_t = matrices(POINTS[:5])
    assert np.allclose(a_t, A_T)
    assert np.allclose(filters_in, G)
    assert np.allclose(b_t, B_T)
    Arrays(2, B_T=b_t, G=filters_in, A_T=a_t)
    return (POINTS,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## How large a tile?

    In two dimensions, a tile of $t \times t$ results of a 3 x 3 filter takes $(t + 2)^2$ products
    instead of $9 t^2$. Larger tiles save more products. But the powers of the points grow, and the
    large terms cancel in the result, which costs digits. The plots show both: the saving of a tile,
    and the error along one row in float32.
    """)
    return


@app.cell
def _():
    tile = mo.ui.slider(1, 8, value=4, label="tile t", show_value=True)
    tile
    return (tile,)


@app.cell
def _(POINTS):
    def worst_error(t):
        """Return the largest relative error of a tile of t results in float32."""
        rng = np.random.default_rng(0)
        d, g = rng.standard_normal((1000, t + 2)), rng.standard_normal((1000, 3))
        a_t, g_in, b_t = (matrix.astype(np.float32) for matrix in matrices(POINTS[: t + 1]))
        rounded, taps = d.astype(np.float32), g.astype(np.float32)
        y = ((taps @ g_in.T) * (rounded @ b_t.T)) @ a_t.T
        pairs = zip(rounded.astype(float), taps.astype(float), strict=True)
        exact = np.array([np.correlate(pixels, kernel) for pixels, kernel in pairs])
        return float(np.max(abs(y - exact)) / np.max(abs(exact)))

    tiles = np.arange(1, 9)
    saved = 9 * tiles**2 / (tiles + 2) ** 2
    lost = np.array([worst_error(t) for t in tiles])
    return lost, saved, tiles


@app.cell(hide_code=True)
def _(lost, saved):
    show(
        Question(
            r"""
    The saving $9 t^2 / (t + 2)^2$ grows with the tile. What is its limit for a
    huge tile? Why not use $t = 8$ rather than $t = 4$?
    """,
            rf"""
    The limit is 9: one product per result instead of nine. $t = 8$ saves a factor of
    {saved[7]:.2f} instead of {saved[3]:.2f}, but the error is {lost[7]:.0e} instead of
    {lost[3]:.0e}, {lost[7] / lost[3]:.0f} times larger: of the 7 digits of float32 about
    {-np.log10(lost[7]):.0f} are left.
    """,
        )
    )
    return


@app.cell(hide_code=True)
def _(lost, saved, tile, tiles):
    _plot = Plot(2.2, columns=2)
    for _axes, _values in zip(_plot.axes, (saved, lost), strict=True):
        _axes.plot(tiles, _values, "o-")
        _axes.axvline(tile.value, color="0.7", zorder=0)
        _axes.set_xlabel("tile t")
    _plot.axes[0].set_title("saving: 9 t² / (t + 2)²", fontsize=10)
    _plot.axes[1].set_title("largest relative error", fontsize=10)
    _plot.axes[1].set_yscale("log")
    _few, _many = (tile.value + 2) ** 2, 9 * tile.value**2
    _k = tile.value - 1
    mo.vstack(
        [
            _plot,
            mo.md(
                f"t = {tile.value}: {_few} products instead of {_many}, {saved[_k]:.2f} times "
                f"fewer, and an error of {lost[_k]:.0e}, {lost[_k] / lost[0]:.1f} times the error "
                f"of t = 1. Our compiled back end uses t = {len(A_T)}."
            ),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: backward by one large product

    The rung *im2col_product* copies every window into a column, so that a single matrix product
    computes the convolution. Write its backward. `cols` is (N, C, KH * KW, OH, OW): the pixel at
    each offset of each window. `dcols` has the same shape; the given lines add it back to the
    image. `filters` is (K, C, KH * KW).
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
    for k, (i, j) in enumerate(where.offsets()):
        window(dpadded, where, i, j)[...] += dcols[:, :, k]
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
    judged(exercise, conv2d_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    ## Task: Winograd's backward

    The forward below computes two results from each row of four pixels, with the matrices of the
    points 0, 1, -1 and infinity. `d` is (N, 4): N rows of pixels. `g`, the filter of three numbers,
    is the same for all of them. `y` is (N, 2):
    """),
            mo.md(python_of(winograd_forward)),
            mo.md(r"""
    Write the whole backward, without a skeleton; it returns `dd` and `dg`. It should multiply in
    the four points, too: it never forms the six products of the definition.
    """),
        ]
    )
    return


@app.function(hide_code=True)
def winograd_forward(d, g):
    A_T, G, B_T = matrices([0.0, 1.0, -1.0])
    points = d @ B_T.T  # (N, 4)
    taps = G @ g  # (4,)
    products = points * taps
    y = products @ A_T.T
    return y, (points, taps, A_T, G, B_T)


@app.function
def winograd_backward(dy, cache):
    """Return dd (N, 4) and dg (3,)."""
    ...


@app.cell(hide_code=True)
def _():
    _rng = np.random.default_rng(7)
    task = Task(
        by_gradients(
            winograd_forward,
            [_rng.standard_normal((3, 4)), _rng.standard_normal(3)],
            names=["d", "g"],
        ),
        hints=(
            "One line for each line of forward, last line first.",
            "y = products @ A_T.T: the gradient of products is dy times the matrix, untransposed.",
            "products = points * taps: dpoints is dproducts * taps. All rows use one taps, so "
            "dtaps is a sum over the rows.",
        ),
        solution="""
            def winograd_backward(dy, cache):
                points, taps, A_T, G, B_T = cache
                dproducts = dy @ A_T
                dpoints = dproducts * taps
                dtaps = (dproducts * points).sum(axis=0)
                dd = dpoints @ B_T
                dg = G.T @ dtaps
                return dd, dg
        """,
    )
    return (task,)


@app.cell(hide_code=True)
def _(task):
    judged(task, winograd_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Summary

    - First compile the loops, then fill the processor's vectors with independent sums, then use
      every loaded number often.
    - A matrix product by BLAS does all of this. If every window is copied into a column, a
      convolution is one matrix product.
    - Winograd's algorithm needs fewer products, but loses digits.
    - The rungs are in `minise/bench/ladder.py`. Our compiled back end uses the last
      two:
      `minise/ops/jit/vector/tile.py` and
      `minise/ops/jit/convolution/direct.py`, and
      `minise/ops/jit/convolution/transforms.py` and
      `minise/ops/jit/convolution/winograd.py`, whose rounding
      `minise/ops/jit/convolution/rounding.py` bounds.

    Next: [from NumPy to CUDA](?file=11_numpy_to_cuda.py).

    Sources: Chellapilla, Puri and Simard, *High Performance Convolutional Neural Networks for
    Document Processing* (2006), for the copied windows; Goto and van de Geijn, *Anatomy of
    High-Performance Matrix Multiplication*, ACM TOMS 34 (2008); Winograd, *Arithmetic Complexity of
    Computations* (1980); Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*,
    arXiv:1509.09308.
    """)
    return


if __name__ == "__main__":
    app.run()
