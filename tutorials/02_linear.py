import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Linear layers and a first net")

with app.setup:
    import marimo as mo
    import numpy as np

    from minise.contract.case import Case
    from minise.grading.exercise import Exercise
    from minise.lessons import Arrays, Plot
    from minise.ops import reference as ops
    from minise.walk import trace


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 2. Linear layers and a first net

    A linear layer is a matrix product. Two linear layers with a ReLU between them, which replaces
    negative numbers by zero, are a net that can separate classes that no line separates. In this
    lesson you train such a net in a dozen lines, without a framework, and then write the backward
    pass of the layer yourself.

    You need: [the chain rule in shapes](01_chain_rule.py).
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
    dout = np.array([[1.0, 0.0], [0.0, 2.0]])
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

    `dout` is (N, O). Which product has the shape of `x`, (N, I)? Only `dout @ weight`. Which has
    the shape of `weight`, (O, I)? Only `dout.T @ x`. And the bias was repeated over $N$ rows, so
    its gradient is the sum over these rows. The two products are the derivatives of the formula
    above:

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
    linear, ReLU, linear; the loss is softmax cross-entropy (see [lesson 8](08_training.py)). Choose
    the number of hidden units.
    """)
    return


@app.cell
def _():
    hidden = mo.ui.slider(1, 16, value=8, label="hidden units", show_value=True)
    hidden
    return (hidden,)


@app.cell
def _(hidden):
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 200)
    labels = np.arange(200) % 2
    radius = np.where(labels == 0, 1.0, 2.0) + rng.normal(0, 0.15, 200)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    w1, b1 = rng.standard_normal((hidden.value, 2)), np.zeros(hidden.value)
    w2, b2 = rng.standard_normal((2, hidden.value)) / np.sqrt(hidden.value), np.zeros(2)

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
    accuracy = float((run(points)[0].argmax(axis=1) == labels).mean())
    return accuracy, labels, losses, points, run


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
                f"{losses[-1]:.2f}; {accuracy:.0%} of the points are classified correctly. With "
                "one or two hidden units the boundary cannot enclose the inner ring."
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
                "Which product of dout (N, O) and x (N, I) has shape (O, I)?",
                "dweight = dout.T @ x",
            ),
            "dx": (
                "Which product of dout (N, O) and weight (O, I) has shape (N, I)?",
                "dx = dout @ weight",
            ),
        },
    )
    return (exercise,)


@app.cell(hide_code=True)
def _(exercise):
    answer = exercise.check(linear_backward)
    if mo.app_meta().mode == "script":
        print(answer)
    answer
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

    - The gradients of a linear layer are two matrix products. The shapes leave one way to write
      them.
    - All samples share the weight and the bias, so their gradients are sums over the samples.
    - A training step is forward, loss, the backward calls in reverse order, and a gradient descent
      step.
    - The training code is [linear.py](../minise/ops/reference/linear.py): a backward in three
      lines.

    Next: [convolution](03_convolution.py), which is nine such products.

    Source: the notes of Stanford's course CS231n on neural networks.
    """)
    return


if __name__ == "__main__":
    app.run()
