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

    The linear layer is a matrix product. Between two of them put a ReLU, which makes zeros of
    negative numbers, and you have a net that learns what no line can separate. In this lesson you
    train one with no framework, in a dozen lines, and then write the backward pass of the layer
    yourself.

    You need: [the chain rule in shapes](01_chain_rule.py).
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The layer

    A batch of $N$ samples with $I$ numbers each is a matrix. A layer with $O$ outputs has a
    weight matrix of $O$ rows, one for each output, and a bias:

    $$ \text{out}_{no} = \sum_i x_{ni} \, \text{weight}_{oi} + \text{bias}_o $$

    In NumPy: `out = x @ weight.T + bias`. The ops in minise come in pairs. Forward returns `out`
    and a `cache`, which is whatever backward will need; backward takes `dout` and the cache, and
    returns a gradient for each array that went in.
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
    dweight[1, 1], for the weight from input 1 to output 1 (counted from 0), is a sum over both
    samples, since both use it: {_backward} = {dweight[1, 1]:g}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Shapes write the backward

    `dout` is (N, O). What gives the shape of `x`, (N, I)? Only `dout @ weight`. What gives the
    shape of `weight`, (O, I)? Only `dout.T @ x`. And the bias was repeated over $N$ rows, so its
    gradient is the sum over them. The two products are the formula above, differentiated:

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

    Two rings of points, one inside the other. No line separates them. The net is linear, ReLU,
    linear; the loss is softmax cross-entropy, of which [lesson 8](08_training.py) tells more.
    Choose the number of hidden units.
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
        """Return the logits, and what backward needs."""
        u, first = ops.linear_forward(inputs, w1, b1)
        h, relu = ops.relu_forward(u)
        logits, second = ops.linear_forward(h, w2, b2)
        return logits, (first, relu, second)

    losses = []
    for _step in range(300):
        logits, (first, relu, second) = run(points)
        loss, tail = ops.softmax_cross_entropy_forward(logits, labels)
        losses.append(float(loss))

        one = np.asarray(1.0)  # the gradient of the loss with respect to itself
        dlogits, _ = ops.softmax_cross_entropy_backward(one, tail)
        dh, dw2, db2 = ops.linear_backward(dlogits, second)
        (du,) = ops.relu_backward(dh, relu)
        _, dw1, db1 = ops.linear_backward(du, first)
        for array, gradient in ((w1, dw1), (b1, db1), (w2, dw2), (b2, db2)):
            array -= 0.5 * gradient  # a step downhill
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
                f"{losses[-1]:.2f}; {accuracy:.0%} of the points are on the right side. With one "
                "or two hidden units the border cannot close around the inner ring."
            ),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: the backward pass

    Replace each `...` by one line, and run the cell (Ctrl+Enter). The answer below compares what
    each line gives with the exact slope of the real forward, and marks it: ok, WRONG, or ? for
    what cannot be judged yet. A line that reads a wrong one is wrong too, so mend the first. Hints
    unfold one by one, and the last one is the solution.
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
                "One bias serves all rows.",
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

    Here is the op that trains, taken apart on the numbers of this lesson: each of its lines, what
    it read and what it gave. Open it, step through it, and click on a number to see the sum that
    it is. It shows the solution, so it stands behind the exercise, here and in the lessons to
    come.
    """)
    return


@app.cell
def _(bias, dout, weight, x):
    trace("linear", [x, weight, bias], dout)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What to take with you

    - A linear layer's gradients are two matrix products. Shapes leave one way to write them.
    - What all samples share, weight and bias, collects a sum over the samples.
    - A training step is forward, loss, the same calls in reverse order, and a step downhill.
    - The op that trains is [linear.py](../minise/ops/reference/linear.py): a backward in three
      lines.

    Next: [convolution](03_convolution.py), which is nine such products.

    Source: the notes of Stanford's course CS231n on neural networks.
    """)
    return


if __name__ == "__main__":
    app.run()
