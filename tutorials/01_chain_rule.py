import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="The chain rule in shapes")

with app.setup:
    import marimo as mo
    import numpy as np

    from minise.lessons import Arrays


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 1. The chain rule in shapes

    A net is a long chain of functions. Training needs one thing of it: how the loss at its end
    changes with every number at its beginning. This lesson shows how the chain rule gives that
    for arrays, why one goes backward, and how shapes alone nearly write the formula for you.

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
    `dout` is 1. Each line forward has one line backward, and they run in the opposite order.
    """)
    return


@app.cell
def _():
    x = 2.0
    v = 3 * x
    out = v**2

    dout = 1.0
    dv = dout * 2 * v  # forward: out = v ** 2
    dx = dv * 3  # forward: v = 3 * x

    moved = (3 * (x + 1e-6)) ** 2
    mo.md(f"dx = {dx}, and measured: {(moved - out) / 1e-6:.4f}")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Many numbers

    Let $x$ have three numbers and $v = A x$ two. All derivatives of $v$ in $x$ are a table of 2 x
    3 numbers, the *Jacobian*. For a matrix product it is $A$ itself. The loss is one number, so
    `dv` has the shape of `v`, and `dx` the shape of `x`. Each $x_i$ reaches the loss through both
    numbers of $v$. The routes add up:

    $$ dx_i = \sum_o dv_o \, A_{oi}, \quad dx = A^T dv $$

    **A gradient has the shape of what it is for.** With this rule, and `dv` (2,) and `A` (2, 3)
    at hand, there is only one product that gives (3,). Shapes suggest a formula, they do not prove
    it: were `A` square, `A @ dv` would fit as well.
    """)
    return


@app.cell
def _():
    A = np.array([[1.0, 2.0, 0.0], [0.0, -1.0, 3.0]])
    vector = np.array([1.0, 1.0, 2.0])
    product = A @ vector
    dproduct = np.array([10.0, 1.0])  # given: how the loss changes with both numbers of the product
    dvector = A.T @ dproduct
    Arrays(0, A=A, x=vector, v=product, dv=dproduct, dx=dvector)
    return A, dproduct, dvector


@app.cell(hide_code=True)
def _(A, dproduct, dvector):
    _terms = [f"{dproduct[o]:g} · ({A[o, 1]:g})" for o in range(2)]
    mo.md(f"""
    By hand for the middle one: {_terms[0]} + {_terms[1]} = {dvector[1]:g}. It has two routes, one
    through each number of v.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Five rules that are all there is

    | forward | backward | because |
    |:---|:---|:---|
    | `out = f(a)`, each number alone | `da = dout * f'(a)` | the slope of one number |
    | `out = a * b` | `da = dout * b` | each factor gets the other one |
    | `out = a + b` | `da = dout`, `db = dout` | a sum hands on |
    | one number used by many | sum over all its uses | routes add up |
    | `mean` of $M$ numbers | `dout / M` to each | each has a share of $1/M$ |

    The matrix product above is rules two to four at once: each entry is a sum of products, and each
    $x_i$ goes into several. The last two rules mirror each other. NumPy's broadcasting repeats a
    number forward, so backward *sums* along that axis. A sum forward *repeats* backward, and a mean
    repeats a share. Move the sliders: the bias is added to every row of a table, and its gradient
    is the sum of that column.
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
    numbers to one loss. Forward, one carries the derivative of everything in every input: a
    matrix. Backward, one starts at the loss, which is one number, and carries a vector.
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
    _forward = (_layers - 1) * _n**3 + _n**2  # matrix times matrix, at last times the loss's vector
    _backward = _layers * _n**2  # vector times matrix, every time
    mo.md(f"""
    {_layers} layers of {_n} x {_n} numbers: {_forward:,} multiplications forward, {_backward:,}
    backward. That is {_forward / _backward:,.0f} times fewer, for the same numbers.
    Backpropagation is nothing else than this order.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## A chain with two routes

    Last, a function in which $x$ is used twice: $z$ = mean of $x$, $\text{out} = x \cdot z$. Its
    gradient is a sum of two terms. Squeeze and excitation, in [lesson
    6](06_squeeze_and_excitation.py), is this with a small net between $z$ and the product.
    """)
    return


@app.cell
def _():
    pixels = np.array([1.0, 2.0, 6.0])
    z = pixels.mean()
    scaled = pixels * z

    dscaled = np.array([1.0, 0.0, 0.0])
    direct = dscaled * z  # forward: scaled = pixels * z, z held fixed
    dz = (dscaled * pixels).sum()  # one z serves all pixels: sum
    through_mean = np.full(3, dz / 3)  # forward: z = mean: a third to each
    dpixels = direct + through_mean

    for place in range(3):  # and measured, pixel by pixel
        there = pixels.copy()
        there[place] += 1e-6
        slope = (dscaled * (there * there.mean() - scaled)).sum() / 1e-6
        assert abs(slope - dpixels[place]) < 1e-5
    Arrays(2, x=pixels, direct=direct, through_the_mean=through_mean, dx=dpixels)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What to take with you

    - `dv` is the gradient of the loss with respect to `v`, and has its shape.
    - Undo line after line, last one first. Used by many: sum. A mean: a share to each.
    - Where a name is used twice, its gradient is a sum of two.
    - Measure what you derived. Three lines of differences are enough.

    `minise walk --all pages` writes a page for every op in which each number of backward unfolds
    into its sum, just as above.

    Next: [linear layers and a first net](02_linear.py), where you write your first backward.

    Sources: the notes of Stanford's course CS231n on backpropagation; Baydin et al., *Automatic
    differentiation in machine learning: a survey*, arXiv:1502.05767, for the cost of both orders.
    """)
    return


if __name__ == "__main__":
    app.run()
