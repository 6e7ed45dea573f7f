import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Linear layers and a first net")

with app.setup:
    import marimo as mo
    import numpy as np

    from minise.contract.case import Case
    from minise.grading.exercise import Exercise
    from minise.lessons import Arrays, Plot, Question, Task, by_values, judged, show, slopes, table
    from minise.ops import reference as ops
    from minise.walk import trace


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 2. Linear layers and a first net

    A linear layer is a matrix product. Two linear layers with a ReLU between them, which replaces
    negative numbers by zero, are a net that can separate classes that no line separates. In this
    lesson you train such a net in a dozen lines, without a framework. Then you write the backward
    pass of the layer, and a check that tells a right backward from a wrong one.

    You need: [the chain rule in shapes](?file=01_chain_rule.py).
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The layer

    A batch of $N$ samples with $I$ numbers each is a matrix. A layer with $O$ outputs has a
    weight matrix with $O$ rows, one for each output, and a bias:

    $$ \text{out}_{no} = \sum_i x_{ni} \, \text{weight}_{oi} + \text{bias}_o $$

    In NumPy: `out = x @ weight.T + bias`. The ops in minise come in pairs. Forward returns `out`
    and a `cache` with the arrays that backward needs; backward takes `dout` and the cache, and
    returns one gradient for each input array.
    """)
    return


@app.cell
def _():
    x = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 1.0]])  # N = 2 samples, I = 3
    weight = np.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]])  # O = 2 outputs
    bias = np.array([0.0, 10.0])

    out, cache = ops.linear_forward(x, weight, bias)
    dout = np.array([[1.0, 0.0], [3.0, 2.0]])
    dx, dweight, dbias = ops.linear_backward(dout, cache)
    mo.vstack(
        [
            Arrays(0, x=x, weight=weight, bias=bias, out=out),
            Arrays(0, dout=dout, dx=dx, dweight=dweight, dbias=dbias),
        ]
    )
    return bias, dout, dweight, out, weight, x


@app.cell(hide_code=True)
def _(dout, dweight, out, weight, x):
    _forward = " + ".join(f"{a:g} · ({b:g})" for a, b in zip(x[0], weight[0], strict=True))
    _backward = " + ".join(f"{dout[n, 1]:g} · ({x[n, 1]:g})" for n in range(2))
    mo.md(f"""
    By hand: the first output of the first sample is {_forward} = {out[0, 0]:g}. And
    dweight[1, 1], the gradient for the weight from input 1 to output 1 (counted from 0), is a sum
    over both samples, because both use this weight: {_backward} = {dweight[1, 1]:g}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The backward pass from shapes

    `dout` is (N, O). Which product with `weight`, (O, I), has the shape of `x`, (N, I)? If N, I and
    O differ, only `dout @ weight`. Which product with `x` has the shape of `weight`? Only
    `dout.T @ x`. And the bias was repeated over $N$ rows, so its gradient is the sum over these
    rows.
    """)
    return


@app.cell(hide_code=True)
def _(dout, dweight, x):
    _other = dout @ x
    show(
        Question(
            """
            In the example above N and O are both 2. Is `dout.T @ x` still the only product of the
            two arrays with the shape of `weight`?
            """,
            f"""
            No. `dout @ x` has the shape {_other.shape} too. It is {_other.tolist()}, and the
            gradient is {dweight.tolist()}. Shapes suggest a formula; only the derivative proves it.
            And a test whose axes all differ excludes more wrong formulas than one with N = O.
            """,
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    So take the derivative. In the formula above, $x_{ni}$ is multiplied with
    $\text{weight}_{oi}$ in every output $o$ of its own sample, and $\text{weight}_{oi}$ with
    $x_{ni}$ in every sample $n$. Both have several uses, and their gradients add up:

    $$
    \begin{aligned}
    dx_{ni} &= \textstyle\sum_o \text{dout}_{no}\,\text{weight}_{oi}\\
    d\text{weight}_{oi} &= \textstyle\sum_n \text{dout}_{no}\, x_{ni}
    \end{aligned}
    $$
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## A first net

    The data are two rings of points, one inside the other. No line separates them. The net is
    linear, ReLU, linear; the loss is softmax cross-entropy (see [lesson 8](?file=08_training.py)).
    A training step is forward, loss, the backward calls in reverse order, and a gradient descent
    step. `train` is all there is to it.
    """)
    return


@app.cell
def _():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 200)
    labels = np.arange(200) % 2
    radius = np.where(labels == 0, 1.0, 2.0) + rng.normal(0, 0.15, 200)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def train(hidden_units, seed=1):
        """Return the losses, the trained net as a function, and its accuracy."""
        rng = np.random.default_rng(seed)
        w1, b1 = rng.standard_normal((hidden_units, 2)), np.zeros(hidden_units)
        w2, b2 = rng.standard_normal((2, hidden_units)) / np.sqrt(hidden_units), np.zeros(2)

        def run(inputs):
            """Return the logits and the caches of the three layers."""
            u, first = ops.linear_forward(inputs, w1, b1)
            h, relu = ops.relu_forward(u)
            logits, second = ops.linear_forward(h, w2, b2)
            return logits, (first, relu, second)

        losses = []
        for _step in range(300):
            logits, (first, relu, second) = run(points)
            loss, tail = ops.softmax_cross_entropy_forward(logits, labels)
            losses.append(float(loss))

            dloss = np.asarray(1.0)  # the gradient of the loss with respect to itself
            dlogits, _ = ops.softmax_cross_entropy_backward(dloss, tail)
            dh, dw2, db2 = ops.linear_backward(dlogits, second)
            (du,) = ops.relu_backward(dh, relu)
            _, dw1, db1 = ops.linear_backward(du, first)
            for array, gradient in ((w1, dw1), (b1, db1), (w2, dw2), (b2, db2)):
                array -= 0.5 * gradient  # a gradient descent step
        return losses, run, float((run(points)[0].argmax(axis=1) == labels).mean())

    return labels, points, train


@app.cell(hide_code=True)
def _(train):
    _units, _starts = (1, 2, 3, 8), 5
    _shares = {n: [train(n, seed)[2] for seed in range(_starts)] for n in _units}
    _text = ", ".join(f"{max(shares):.0%} with {n}" for n, shares in _shares.items())
    _worst = ", ".join(f"{min(_shares[n]):.0%} with {n}" for n in _units[2:])
    show(
        Question(
            """
            One hidden unit gives a boundary that is a straight line. How many hidden units does
            the net need, at least, to enclose the inner ring?
            """,
            f"""
            Three. Each hidden unit has a straight kink, and two lines enclose no area of the plane;
            three enclose a triangle. The best of {_starts} random starts classifies {_text}
            hidden units correctly; the worst, {_worst}. Whether training finds what the net could
            do is another question, and more units than the minimum make it likelier.
            """,
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Choose the number of hidden units, and look at the boundary.
    """)
    return


@app.cell
def _():
    hidden = mo.ui.slider(1, 16, value=8, label="hidden units", show_value=True)
    hidden
    return (hidden,)


@app.cell
def _(hidden, train):
    losses, run, accuracy = train(hidden.value)
    return accuracy, losses, run


@app.cell(hide_code=True)
def _(accuracy, labels, losses, points, run):
    _plot = Plot(2.1, columns=2)
    _left, _right = _plot.axes
    _left.plot(losses)
    _left.set_xlabel("step")
    _left.set_ylabel("loss")
    _side = np.linspace(-2.8, 2.8, 80)
    _plane = np.stack(np.meshgrid(_side, _side), axis=-1).reshape(-1, 2)
    _logits, _ = run(_plane)
    _right.contourf(
        _side,
        _side,
        (_logits[:, 1] - _logits[:, 0]).reshape(80, 80),
        levels=[-1e9, 0, 1e9],
        colors=["#cfe0f0", "#f6ddcf"],
    )
    _right.scatter(*points.T, c=np.where(labels == 0, "#2166ac", "#ca5020"), s=8)
    _right.set_aspect("equal")
    _right.axis("off")
    mo.vstack(
        [
            _plot,
            mo.md(
                f"After {len(losses)} steps the loss has gone from {losses[0]:.2f} to "
                f"{losses[-1]:.2f}; {accuracy:.0%} of the points are classified correctly."
            ),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: the backward pass

    Replace each `...` by one line, and run the cell (Ctrl+Enter). The answer below compares the
    result of each line with the exact derivative of the real forward, and marks the line: ok,
    WRONG, or ? if it cannot be judged yet. A line that reads a wrong result is wrong too, so fix
    the first wrong line. Hints unfold one by one, and the last hint is the solution.
    """)
    return


@app.function
def linear_backward(dout, cache):
    x, weight, bias = cache
    dbias = ...
    dweight = ...
    dx = ...
    return dx, dweight, dbias


@app.cell(hide_code=True)
def _():
    exercise = Exercise(
        [
            Case("linear", dict(N=1, I=2, O=1)),
            Case("linear", dict(N=2, I=2, O=3)),
            Case("linear", dict(N=3, I=2, O=4)),
        ],
        hints={
            "dbias": (
                "All rows use the same bias.",
                "Sum dout over the rows: axis=0.",
                "dbias = dout.sum(axis=0)",
            ),
            "dweight": (
                "A sum over n of dout[n, o] * x[n, i]: which product is that?",
                "dweight = dout.T @ x",
            ),
            "dx": (
                "A sum over o of dout[n, o] * weight[o, i]: which product is that?",
                "dx = dout @ weight",
            ),
        },
    )
    return (exercise,)


@app.cell(hide_code=True)
def _(exercise):
    judged(exercise, linear_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## A check of your own

    The exercise knows the answer. For a backward of your own nobody does, so compare it with
    forward. Take $f(x) = x_0 x_1^2$ at $x = (3, 2)$. By hand, the gradient is
    $(x_1^2, 2 x_0 x_1)$. Take a small step along a direction $u$. The change of $f$, divided by
    the step, is the inner product of the gradient and $u$, the slope of $f$ along $u$:

    $$ \frac{f(x + h u) - f(x - h u)}{2 h} \;\approx\; \langle \text{gradient}, u \rangle $$

    The left side needs two runs of forward and does not use backward. One direction tests all
    entries of the gradient at once: if an entry is wrong, both sides differ for nearly every $u$.
    """)
    return


@app.cell
def _():
    def f(x):
        return x[0] * x[1] ** 2

    at = np.array([3.0, 2.0])
    gradient = np.array([at[1] ** 2, 2 * at[0] * at[1]])
    u, h = np.array([0.6, -0.8]), 1e-3
    slope = (f(at + h * u) - f(at - h * u)) / (2 * h)
    mo.md(f"⟨gradient, u⟩ = {gradient @ u:.6f}, central difference {slope:.6f}")
    return


@app.cell(hide_code=True)
def _(bias, dout, weight, x):
    _u = np.array([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]])
    _slopes = {}
    for _h in (1e-5, 1.0, 1000.0):
        _slopes[_h] = slopes(
            lambda a: ops.linear_forward(a, weight, bias),
            lambda d, cache: ops.linear_backward(d, cache)[0],
            x,
            dout,
            _u,
            _h,
        )
    _errors = {h: abs(by_forward - by_backward) for h, (by_backward, by_forward) in _slopes.items()}
    _text = ", ".join(f"{error:.0e} at h = {h:g}" for h, error in _errors.items())
    show(
        Question(
            """
            For $f$ above, a larger step makes the difference less exact. For the linear layer, how
            large may $h$ be?
            """,
            f"""
            As large as you like: `out` is linear in $x$, so the quotient of differences is the
            slope for every $h$. Along a direction, both slopes of the example above are
            {_slopes[1.0][0]:g}, and they differ by {_text}. A *small* step is the least exact here:
            it subtracts two numbers that are nearly equal.
            """,
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Task: write the check

    An op has many outputs. Take any `dout`, and let the loss be
    $\langle \text{dout}, \text{out} \rangle$, the sum of the products of all entries. Then `dout`
    is the gradient of the loss with respect to `out`, and backward must return its gradient with
    respect to `x`. Write `my_slopes`: `forward(x)` returns `out, cache`, `backward(dout, cache)`
    returns `dx`, and `u` has the shape of `x`. Return two numbers: the slope along `u` by backward,
    $\langle dx, u \rangle$, and by forward, the central difference of the loss.
    """)
    return


@app.function
def my_slopes(forward, backward, x, dout, u, h):
    """Return by_backward, by_forward: the slope of the loss along u, computed in two ways."""
    ...


@app.cell(hide_code=True)
def _():
    _rng = np.random.default_rng(0)
    _x, _dout, _u = _rng.standard_normal((3, 2, 3))
    _cube = (lambda x: (x**3, x), lambda dout, x: 3 * x**2 * dout)
    _half = (lambda x: (x**3, x), lambda dout, x: x**2 * dout)
    task = Task(
        by_values(
            slopes,
            [(*pair, _x, _dout, _u, 1e-4) for pair in (_cube, _half)],
            names=["by_backward", "by_forward"],
        ),
        hints=(
            "An inner product of two arrays is the sum of a product: (a * b).sum().",
            "backward needs the cache of a run of forward at x.",
            "After a step along u, out is forward(x + h * u)[0]; the loss is (dout * out).sum().",
            "Central: the loss at x + h * u minus the loss at x - h * u, divided by 2 * h.",
        ),
        solution="""
            def my_slopes(forward, backward, x, dout, u, h):
                _, cache = forward(x)
                by_backward = (backward(dout, cache) * u).sum()
                change = forward(x + h * u)[0] - forward(x - h * u)[0]
                by_forward = (dout * change).sum() / (2 * h)
                return by_backward, by_forward
        """,
    )
    return (task,)


@app.cell(hide_code=True)
def _(task):
    judged(task, my_slopes)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    The package has the same function, `minise.lessons.slopes`. Here it checks four backward passes
    of the linear layer, the right one and three mistakes, each along one random direction. In
    [lesson 5](?file=05_batch_norm.py) it shows why `dout` must be random, and in
    [lesson 9](?file=09_checking_gradients.py) it becomes a test that finds real bugs.
    """)
    return


@app.cell
def _(bias, weight):
    generator = np.random.default_rng(1)
    samples, direction = generator.standard_normal((2, 2, 3))
    random_dout = generator.standard_normal((2, 2))
    ways = {
        "dout @ weight": lambda d, cache: d @ cache.weight,
        "dout @ weight / N": lambda d, cache: d @ cache.weight / len(d),
        "dout.T @ weight": lambda d, cache: d.T @ cache.weight,
        "-dout @ weight": lambda d, cache: -d @ cache.weight,
    }
    compared = {
        way: slopes(
            lambda a: ops.linear_forward(a, weight, bias),
            backward,
            samples,
            random_dout,
            direction,
        )
        for way, backward in ways.items()
    }
    mo.md(
        table(
            ["dx", "by backward", "by forward"],
            [(f"`{way}`", *(f"{v:.4f}" for v in pair)) for way, pair in compared.items()],
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Every number

    This page shows the training code of the op on the numbers of this lesson: each line, the
    arrays that it reads and its result. Open it, step through it, and click on a number to see how
    it is computed. It contains the solution, so in every lesson it comes after the exercise.
    """)
    return


@app.cell
def _(bias, dout, weight, x):
    trace("linear", [x, weight, bias], dout)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Summary

    - The gradients of a linear layer are two matrix products. The shapes suggest them, the
      derivative proves them.
    - All samples share the weight and the bias, so their gradients are sums over the samples.
    - A training step is forward, loss, the backward calls in reverse order, and a gradient descent
      step.
    - Compare a backward with forward: the slope of the loss along a direction, computed in two
      ways.
    - The training code is `minise/ops/reference/linear.py`: a backward in three
      lines.

    Next: [convolution](?file=03_convolution.py), which is nine such products.

    Sources: the notes of Stanford's course CS231n on neural networks and on gradient checks.
    """)
    return


if __name__ == "__main__":
    app.run()
