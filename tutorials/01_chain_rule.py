import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="The chain rule in shapes")

with app.setup:
    import marimo as mo
    import numpy as np

    from minise.contract.case import Case
    from minise.grading.exercise import Exercise
    from minise.lessons import Arrays, Question, Task, by_gradients, judged, show


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 1. The chain rule in shapes

    A net is a long chain of functions. To train it we need the derivative of the loss, at the end
    of the chain, with respect to every number at its beginning. This lesson shows how the chain
    rule computes it for arrays, why we go backward, and how far shapes help to find the formula.
    At the end you write two backward passes yourself.

    Three questions ask you to predict. Decide before you unfold the answer: a wrong prediction
    shows you what to read twice.

    You need: derivatives of one variable, and matrix products in NumPy.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## One number

    Let $v = 3x$, $\text{out} = v^2$. By the chain rule $\frac{d\,\text{out}}{dx} =
    \frac{d\,\text{out}}{dv} \cdot \frac{dv}{dx} = 2v \cdot 3$. In code we write `dv` for the
    derivative of the *loss* with respect to `v`, whatever `v` is. Here the loss is `out`, so
    `dout` is 1. Each forward line has one backward line, and they run in reverse order.
    """)
    return


@app.cell
def _():
    x = 5.0
    v = 3 * x
    out = v**2

    dout = 1.0
    dv = dout * 2 * v  # forward: out = v ** 2
    dx = dv * 3  # forward: v = 3 * x

    perturbed_out = (3 * (x + 1e-6)) ** 2
    mo.md(f"""
    out = {out:g}, dv = {dv:g} and dx = {dx:g}. As a difference quotient, dx is
    {(perturbed_out - out) / 1e-6:.4f}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Many numbers

    Let $x$ have three numbers and $v = A x$ two. The derivatives of $v$ with respect to $x$ are a
    2 x 3 matrix, the *Jacobian*. For a matrix product it is $A$ itself. The loss is one number, so
    `dv` has the shape of `v`, and `dx` the shape of `x`. Each $x_i$ reaches the loss through both
    numbers of $v$. The routes add up:

    $$ dx_i = \sum_o dv_o \, A_{oi}, \quad dx = A^T dv $$

    **A gradient has the shape of its array.** `dv` is (2,) and `A` is (2, 3), so `A.T @ dv` is the
    only product of the two with the shape (3,).
    """)
    return


@app.cell
def _():
    A = np.array([[1.0, 2.0, 0.0], [0.0, -1.0, 3.0]])
    vector = np.array([1.0, 1.0, 2.0])
    product = A @ vector
    dproduct = np.array([10.0, 1.0])  # gradient of the loss with respect to the product
    dvector = A.T @ dproduct
    Arrays(0, A=A, x=vector, v=product, dv=dproduct, dx=dvector)
    return A, dproduct, dvector


@app.cell(hide_code=True)
def _(A, dproduct, dvector):
    _terms = [f"{dproduct[o]:g} · ({A[o, 1]:g})" for o in range(2)]
    mo.md(f"""
    By hand for the middle number of x: {_terms[0]} + {_terms[1]} = {dvector[1]:g}. It has two
    routes to the loss, one through each number of v.
    """)
    return


@app.cell(hide_code=True)
def _():
    square = np.array([[1.0, 2.0], [0.0, -1.0]])
    dsquare = np.array([10.0, 1.0])
    show(
        Question(
            """
            The shape led to `A.T @ dv`. Suppose that `A` is square, 2 x 2. Does the shape of `dx`
            still tell `A.T @ dv` from `A @ dv`?
            """,
            f"""
            No: both have the shape (2,). With `A` = {square.tolist()} and `dv` =
            {dsquare.tolist()}, `A.T @ dv` is {(square.T @ dsquare).tolist()} and `A @ dv` is
            {(square @ dsquare).tolist()}. A shape excludes wrong formulas; it does not prove the
            right one. The sum above does, and so does a comparison with numbers. In a test, let
            all axes have different lengths, so that shapes exclude as much as they can.
            """,
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Six rules for everything

    Every op of this course consists of six rules. The first four look at one number at a time; the
    last two are about numbers with many uses. Start with one of those.
    """)
    return


@app.cell(hide_code=True)
def _():
    _dout = np.ones((4, 2))
    _dbias = _dout.sum(axis=0)
    show(
        Question(
            f"""
            A bias of {_dout.shape[1]} numbers is added to each of the {_dout.shape[0]} rows of a
            table, and `dout` is 1 everywhere. What is the gradient of the first number of the bias:
            1, {_dout.shape[0]} or 1/{_dout.shape[0]}?
            """,
            f"""
            It is {_dbias[0]:g}. The number is used {_dout.shape[0]} times, and the gradients of all
            uses are added. It would be 1/{_dout.shape[0]} of that only if forward took a mean.
            """,
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    | forward | backward | because |
    |:---|:---|:---|
    | `out = f(a)`, elementwise | `da = dout * f'(a)` | the derivative of each number |
    | `out = a * b` | `da = dout * b` | the derivative in one factor is the other |
    | `out = a + b` | `da = dout`, `db = dout` | a sum passes the gradient on |
    | `out` = one of several numbers | `dout` to it, 0 to the others | the others do not matter |
    | one number with many uses | sum over all its uses | routes add up |
    | `mean` of $M$ numbers | `dout / M` to each | each number has a share of $1/M$ |

    Rule four is indexing, a maximum, and ReLU: they
    select. The matrix product above combines rules two, three and five: each entry is a sum of
    products, and each $x_i$ is used by several entries.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    The last two rules mirror each other. NumPy's broadcasting repeats a number in forward, so
    backward *sums* along that axis. A sum in forward *repeats* the gradient in backward, and a mean
    repeats a share of it. Move the sliders: the bias is added to every row of a table, and its
    gradient is the sum of each column.
    """)
    return


@app.cell
def _():
    rows = mo.ui.slider(1, 6, value=3, label="rows", show_value=True)
    columns = mo.ui.slider(1, 6, value=2, label="columns", show_value=True)
    mo.vstack([rows, columns])
    return columns, rows


@app.cell
def _(columns, rows):
    dtable = np.arange(1.0, 1 + rows.value * columns.value).reshape(rows.value, columns.value)
    Arrays(0, dout=dtable, dbias=dtable.sum(axis=0))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Why backward

    The chain rule does not say in which order to multiply. Take a chain of matrices from $n$
    numbers to one loss. In forward order, each step multiplies a matrix: the derivatives of all
    numbers with respect to all inputs. In backward order we start at the loss, which is one number,
    and each step multiplies a vector.
    """)
    return


@app.cell
def _():
    size = mo.ui.slider(10, 1000, step=10, value=300, label="n", show_value=True)
    size
    return (size,)


@app.cell(hide_code=True)
def _(size):
    _n, _layers = size.value, 10
    _forward = (_layers - 1) * _n**3 + _n**2  # matrix times matrix; the last factor is a vector
    _backward = _layers * _n**2  # vector times matrix in every layer
    mo.md(f"""
    {_layers} layers of {_n} x {_n} numbers: {_forward:,} multiplications forward, {_backward:,}
    backward. That is {_forward / _backward:,.0f} times fewer, for the same result.
    Backpropagation is the chain rule in this order.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## A chain with two routes

    Last, a function in which $x$ is used twice: $z$ = mean of $x$, $\text{out} = x \cdot z$. Its
    gradient is a sum of two terms. Squeeze and excitation, in [lesson
    6](?file=06_squeeze_and_excitation.py), has a small net between $z$ and the product.
    """)
    return


@app.cell(hide_code=True)
def _():
    _x = np.array([1.0, 2.0, 6.0])
    _gradient = np.array([_x.mean(), 0, 0]) + _x[0] / len(_x)
    show(
        Question(
            rf"""
            $x$ is ({", ".join(f"{v:g}" for v in _x)}), and the loss is the *first* number of
            $\text{{out}} = x \cdot z$. Which numbers of $x$ have a gradient that is not zero?
            """,
            f"""
            All three: ({", ".join(f"{v:.3g}" for v in _gradient)}). The second and the third number
            reach the loss through the mean $z$, which multiplies the first number. Each of them
            gets {_x[0]:g}/{len(_x)}, and the first number gets $z$ = {_x.mean():g} in addition.
            """,
        )
    )
    return


@app.cell
def _():
    pixels = np.array([1.0, 2.0, 6.0])
    z = pixels.mean()
    scaled = pixels * z

    dscaled = np.array([1.0, 0.0, 0.0])
    direct = dscaled * z  # forward: scaled = pixels * z, z held fixed
    dz = (dscaled * pixels).sum()  # all pixels use one z: sum
    through_mean = np.full(3, dz / 3)  # forward: z = mean: a third for each
    dpixels = direct + through_mean

    for k in range(3):  # compare with a difference quotient, pixel by pixel
        perturbed = pixels.copy()
        perturbed[k] += 1e-6
        quotient = (dscaled * (perturbed * perturbed.mean() - scaled)).sum() / 1e-6
        assert abs(quotient - dpixels[k]) < 1e-5
    Arrays(2, x=pixels, direct=direct, through_the_mean=through_mean, dx=dpixels)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: a product with broadcasting

    `x` is a stack of images with the axes (N, C, H, W): images, channels, rows, columns. `s` has
    one number for each channel of each image, (N, C). Forward is `out = x * s[:, :, None, None]`:
    the two None add axes of length 1, so that NumPy repeats each number of `s` over the pixels of
    its channel. Replace each `...` by one line, and
    run the cell (Ctrl+Enter). The answer below compares the result of each line with the exact
    derivative of the real forward, and marks the line. Hints unfold one by one, and the last hint
    is the solution.
    """)
    return


@app.function
def channel_scale_backward(dout, cache):
    x, s = cache.x, cache.s
    dx = ...
    ds = ...
    return dx, ds


@app.cell(hide_code=True)
def _():
    exercise = Exercise(
        [
            Case("channel_scale", dict(N=1, C=1, H=1, W=2)),
            Case("channel_scale", dict(N=2, C=1, H=2, W=2)),
            Case("channel_scale", dict(N=2, C=3, H=4, W=5)),
        ],
        hints={
            "dx": (
                "Rule two: the derivative in one factor is the other factor.",
                "s[:, :, None, None], as in forward, has an entry for each channel of each image.",
                "dx = dout * s[:, :, None, None]",
            ),
            "ds": (
                "Rule two again: dout * x. But one number of s has many uses.",
                "Sum over the pixels of a channel: the axes (2, 3).",
                "ds = (dout * x).sum(axis=(2, 3))",
            ),
        },
    )
    return (exercise,)


@app.cell(hide_code=True)
def _(exercise):
    judged(exercise, channel_scale_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Task: without a skeleton

    Forward subtracts the mean of each row of a table and squares:

    ```python
    centred = x - x.mean(axis=1, keepdims=True)  # keepdims: the mean is (4, 1), a column
    out = centred**2
    ```

    Write the whole backward. The cache is `centred`; return `dx`. Two lines are enough: one for
    each line of forward, last line first. How many routes does a number of `x` have?
    """)
    return


@app.function
def centred_square_backward(dout, centred):
    """Return dx of out = (x - mean of the row) ** 2, for x of shape (4, 5)."""
    ...


@app.cell(hide_code=True)
def _():
    def centred_square(x):
        """Return out and the cache."""
        centred = x - x.mean(axis=1, keepdims=True)
        return centred**2, centred

    task = Task(
        by_gradients(
            centred_square, [np.random.default_rng(0).standard_normal((4, 5))], names=["x"]
        ),
        hints=(
            "out = centred**2: rule one. The derivative of a square is twice the number.",
            "centred = x - mean: x has two routes, a direct one, and one through the mean.",
            "All numbers of a row of centred use one mean, with a minus: dmean = "
            "-dcentred.sum(axis=1, keepdims=True). Rule six gives each x a fifth of dmean.",
        ),
        solution="""
            def centred_square_backward(dout, centred):
                dcentred = dout * 2 * centred
                dx = dcentred - dcentred.mean(axis=1, keepdims=True)
                return dx
        """,
    )
    return (task,)


@app.cell(hide_code=True)
def _(task):
    judged(task, centred_square_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Summary

    - `dv` is the gradient of the loss with respect to `v`, and has the shape of `v`.
    - Go backward line by line, last line first. A number with many uses: sum over the uses. A mean:
      a share for each number.
    - If a name is used twice, its gradient is a sum of two terms.
    - Shapes exclude wrong formulas. They do not prove the right one.
    - Compare every derivation with finite differences. Three lines of code are enough.

    `minise walk --all pages` writes a page for every op. In it you can unfold each number of the
    backward pass into its sum, as above.

    Next: [linear layers and a first net](?file=02_linear.py), where the chain rule trains a net.

    Sources: the notes of Stanford's course CS231n on backpropagation; Baydin et al., *Automatic
    differentiation in machine learning: a survey*, arXiv:1502.05767, for the cost of both orders.
    """)
    return


if __name__ == "__main__":
    app.run()
