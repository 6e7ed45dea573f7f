import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Checking gradients")

with app.setup:
    import marimo as mo
    import numpy as np

    from minise.gradcheck import check
    from minise.gradcheck.cases import Case
    from minise.gradcheck.exercise import Exercise
    from minise.lessons import Plot, table
    from minise.ops import reference as ops


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 9. Checking gradients: what weaker checks miss

    A wrong forward pass shows at once. A wrong backward pass trains, a little worse, and nobody
    knows. So every backward has to be checked against its forward. In this lesson you build such
    a check, find the step at which it is best, and see which real bugs the usual shortcuts let
    through.

    You need: what a derivative is. [Batch normalisation](05_batch_norm.py) and
    [squeeze and excitation](06_squeeze_and_excitation.py) give the examples.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The idea, in one number

    Take $f(x) = x_0 x_1^2$ at $x = (3, 2)$. By hand, the gradient is $(x_1^2, 2 x_0 x_1)$. Now move
    a little along a direction $u$. The value changes by the inner product of gradient and $u$:

    $$ \frac{f(x + h u) - f(x - h u)}{2 h} \;\approx\; \langle \text{gradient}, u \rangle $$

    The left side needs two runs of forward and knows nothing of backward. One random direction
    touches all entries of the gradient at once. If one of them is wrong, the two sides differ.
    """)
    return


@app.cell
def _():
    def f(x):
        return x[0] * x[1] ** 2

    x = np.array([3.0, 2.0])
    gradient = np.array([x[1] ** 2, 2 * x[0] * x[1]])
    u, h = np.array([0.6, -0.8]), 1e-3
    slope = (f(x + h * u) - f(x - h * u)) / (2 * h)
    print(f"<gradient, u> = {gradient @ u:.6f}")
    print(f"measured      = {slope:.6f}")
    return f, gradient, u, x


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## How small a step?

    A large $h$ leaves out the curve of $f$. A small one subtracts two numbers that are nearly
    equal, and their digits cancel. In between lies the best step. There is a way around: take the
    step along the imaginary axis. $\operatorname{imag} f(x + i t u) / t$ subtracts nothing, so $t$
    may be as small as you like. It works where forward is written with functions that take complex
    numbers, as all ops of our reference do.

    Here is the error of three slopes of a squeeze-and-excitation block, against the step.
    """)
    return


@app.cell
def _():
    rng = np.random.default_rng(0)
    shapes = (2, 4, 3, 3), (2, 4), (2,), (4, 2), (4,)
    inputs = [rng.standard_normal(shape) for shape in shapes]
    direction = rng.standard_normal(shapes[3])  # of w2
    out, cache = ops.squeeze_excite_forward(*inputs)
    dout = rng.standard_normal(out.shape)
    exact = np.vdot(ops.squeeze_excite_backward(dout, cache)[3], direction)

    def loss(step):
        moved = [value + 0 * step for value in inputs]  # complex if the step is
        moved[3] = inputs[3] + step * direction
        return (dout * ops.squeeze_excite_forward(*moved)[0]).sum()

    steps = 10.0 ** -np.arange(1, 13)
    slopes = {
        "one-sided": [(loss(h) - loss(0.0)) / h for h in steps],
        "central": [(loss(h) - loss(-h)) / (2 * h) for h in steps],
        "complex step": [loss(1j * h).imag / h for h in steps],
    }
    errors = {way: abs(np.array(found) / exact - 1) + 1e-17 for way, found in slopes.items()}
    return errors, steps


@app.cell
def _(steps):
    which = mo.ui.slider(1, len(steps), value=5, label="digits of the step", show_value=True)
    which
    return (which,)


@app.cell(hide_code=True)
def _(errors, steps, which):
    _plot = Plot(2.8)
    _axes = _plot.axes
    for _way, _values in errors.items():
        _axes.loglog(steps, _values, "o-", label=_way)
    _here = steps[which.value - 1]
    _axes.axvline(_here, color="0.7", zorder=0)
    _axes.set_xlabel("step h")
    _axes.set_ylabel("relative error of the slope")
    _axes.legend()
    _text = ", ".join(f"{way} {values[which.value - 1]:.0e}" for way, values in errors.items())
    _best = {way: steps[int(np.argmin(values))] for way, values in errors.items()}
    mo.vstack(
        [
            _plot,
            mo.md(
                f"At h = {_here:.0e} the errors are: {_text}. The best step of the central "
                f"difference is {_best['central']:.0e}, there it is off by "
                f"{errors['central'].min():.0e}."
            ),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The whole check

    For an op with many outputs take a random `dout`, and look at the loss
    $\langle \text{dout}, \text{out} \rangle$. Then `dout` is its gradient with respect to `out`,
    and backward must give the rest. `minise.gradcheck.check` does this for any pair of functions:

    - in float64, since float32 leaves a difference too few digits;
    - with a random `dout`;
    - for every argument, also for `x`;
    - never across a kink: a ReLU or a maximum that changes sides between $x - h$ and $x + h$;
    - with a bound that follows from rounding, and no tolerance to turn up until the test passes.

    Let us hand it a mistake: a linear layer whose bias gradient is a mean instead of a sum.
    """)
    return


@app.cell
def _():
    def wrong_linear_backward(dout, cache):
        dx, dweight, _ = ops.linear_backward(dout, cache)
        return dx, dweight, dout.mean(axis=0)

    draws = np.random.default_rng(0)
    arrays = [draws.standard_normal(shape) for shape in ((4, 3), (2, 3), (2,))]
    report = check(ops.linear_forward, wrong_linear_backward, arrays)
    mo.md(f"```text\n{report}\n```")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Real bugs, and the checks that miss them

    Each row is a mistake that people make. Each column is a check that people use:

    - **ones**: `dout` is 1 everywhere, because the loss is `out.sum()`;
    - **squares**: `dout` is `out`, because the loss is half the sum of squares;
    - **one entry**: one random entry of each gradient is looked at;
    - **parameters**: all gradients but that of `x`;
    - **loose**: all is as it should be, but an error of 2 % may pass;
    - **minise**: `check`, as above.
    """)
    return


@app.cell
def _():
    def put(gradients, place, value):
        return (*gradients[:place], value, *gradients[place + 1 :])

    def norm_without_variance(gradients, dout, cache):
        mean = dout.mean(axis=(0, 2, 3), keepdims=True)
        return put(gradients, 0, (cache.gamma * cache.rstd)[:, None, None] * (dout - mean))

    def norm_zero(gradients, dout, cache):
        return put(gradients, 0, np.zeros_like(dout))

    def norm_unbiased(gradients, dout, cache):
        M = dout[:, 0].size
        return put(gradients, 0, gradients[0] * np.sqrt((M - 1) / M))

    def gate_forgotten(gradients, dout, cache):
        return put(gradients, 0, dout * cache.s)

    def pool_assigned(gradients, dout, cache):
        W, dx = cache.x.shape[3], np.zeros_like(cache.x)
        for n, c, p, q in np.ndindex(*dout.shape):
            i, j = divmod(cache.argmax[n, c, p, q], W)
            dx[n, c, i, j] = dout[n, c, p, q]  # = instead of +=
        return (dx,)

    def bias_of_first(gradients, dout, cache):
        return put(gradients, 2, dout[0].sum(axis=(1, 2)))

    NORM = Case("batch_norm2d", dict(N=4, C=2, H=4, W=4), dict(training=True))
    BUGS = {
        "batch norm: dx is zero": (NORM, norm_zero),
        "batch norm: no route through the variance": (NORM, norm_without_variance),
        "batch norm: dx by the unbiased variance": (NORM, norm_unbiased),
        "SE: no route through the gate": (
            Case("squeeze_excite", dict(N=2, C=4, H=4, W=4, R=2)),
            gate_forgotten,
        ),
        "max pooling: = instead of += where windows overlap": (
            Case("max_pool2d", dict(N=2, C=2, H=5, W=5), dict(kernel=(3, 3), stride=(2, 2))),
            pool_assigned,
        ),
        "convolution: dbias of the first image only": (
            Case("conv2d", dict(N=3, C=2, H=4, W=4, K=2, KH=3, KW=3)),
            bias_of_first,
        ),
    }
    return (BUGS,)


@app.cell(hide_code=True)
def _(BUGS):
    from minise.gradcheck.cases import draw, functions

    def weak_checks(forward, right, wrong, inputs, rng):
        """Return for each weaker check whether it catches the bug; slopes are exact here."""
        out, cache = forward(*inputs)

        def apart(dout):
            pairs = zip(right(dout, cache), wrong(dout, cache), strict=True)
            return [abs(a - b) / (np.max(abs(a)) + 1e-3) for a, b in pairs]

        random = apart(rng.standard_normal(out.shape))
        return {
            "ones": max(float(e.max()) for e in apart(np.ones(out.shape))) > 1e-3,
            "squares": max(float(e.max()) for e in apart(out)) > 1e-3,
            "one entry": max(float(rng.choice(e.ravel())) for e in random) > 1e-5,
            "parameters": max([float(e.max()) for e in random[1:]] or [0]) > 1e-5,
            "loose": max(float(e.max()) for e in random) > 0.02,
        }

    caught = {}
    for _name, (_case, _bug) in BUGS.items():
        _rng = np.random.default_rng(3)
        _inputs, _keywords = draw(_case, _rng)
        _forward, _right, _branches = functions(ops, _case.op, _keywords)

        def _wrong(dout, cache, _right=_right, _bug=_bug):
            return _bug(_right(dout, cache), dout, cache)

        caught[_name] = weak_checks(_forward, _right, _wrong, _inputs, _rng)
        caught[_name]["minise"] = not check(_forward, _wrong, _inputs, branches=_branches).ok
    return (caught,)


@app.cell(hide_code=True)
def _(caught):
    _checks = list(next(iter(caught.values())))
    _rows = [
        (bug, *("yes" if row[one] else "**no**" for one in _checks)) for bug, row in caught.items()
    ]
    _missed = {one: sum(not row[one] for row in caught.values()) for one in _checks}
    _blind = ", ".join(f"{one} {count}" for one, count in _missed.items())
    mo.md(table(["caught?", *_checks], _rows) + f"\n\nMissed, of {len(caught)}: {_blind}.")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    None of these shortcuts is an invention. Batch normalisation has been released with a wrong `dx`
    because its tests, with no layer in front of it, looked at the parameters only (mlpack, issue
    1923). Our own tests plant such mistakes in every op, and the check has to catch each of them.

    ## Kinks

    At a kink there is no slope. $\max(x, 0)$ at 0 has slope 0 from the left and 1 from the right,
    and a central difference answers 1/2. That is nobody's gradient. It is no rare accident either:
    a step of $h$ crosses a kink whenever some $x$ is nearer than $h$ to it. An op that was written
    by hand knows on which side it was, so our ops tell: `relu_branches(cache)`. The check compares
    the sides at $x - h$, $x$ and $x + h$ and takes a smaller step where they differ.
    """)
    return


@app.cell
def _():
    near = np.array([-1.0, 2e-4, 1.0])
    told = check(
        ops.relu_forward,
        ops.relu_backward,
        [near],
        mode="directional",
        branches=ops.relu_branches,
    )
    mo.md(f"```text\n{told}\n```")
    return (told,)


@app.cell(hide_code=True)
def _(told):
    _one = told.arguments[0]
    mo.md(f"""
    Told of its branches, the check tried {_one.tried} steps, of which {_one.crossed} crossed the
    kink, and took one of {_one.step:.0e}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: a backward with two kinks

    The hard sigmoid is $\text{out} = \min(\max((x + 3) / 6, 0), 1)$: one slope between two flat
    parts. The cache holds `out`, and no `x`. At a kink itself the slope is 0, by the convention
    that we share with PyTorch. The numbers of this exercise are integers, so some of them stand
    exactly on a kink.
    """)
    return


@app.function
def hard_sigmoid_backward(dout, cache):
    out = cache.out
    inside = ...
    dx = ...
    return dx


@app.cell(hide_code=True)
def _():
    exercise = Exercise(
        [
            Case("hard_sigmoid", {"...": (2,)}),
            Case("hard_sigmoid", {"...": (3, 8)}),
        ],
        hints={
            "inside": (
                "Between the kinks out is neither 0 nor 1.",
                "inside = (out > 0) & (out < 1)",
            ),
            "dx": (
                "The slope between the kinks is 1/6, elsewhere 0.",
                "np.where(inside, …, 0) selects; a product would make NaN of 0 * inf.",
                "dx = np.where(inside, dout / 6, 0)",
            ),
        },
        given=("out",),
        own={"inside": lambda cache: ops.hard_sigmoid_branches(cache) == 1},
        integers=True,
    )
    return (exercise,)


@app.cell(hide_code=True)
def _(exercise):
    answer = exercise.check(hard_sigmoid_backward)
    if mo.app_meta().mode == "script":
        print(answer)
    answer
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What to take with you

    - Compare $\langle \text{dout}, J u \rangle$ with $\langle J^T \text{dout}, u \rangle$. Both
      `dout` and `u` are random. One pair of numbers tests the whole gradient.
    - Check in float64, every argument, and do not cross kinks.
    - A check that has never caught a mistake is not a check. Plant some.
    - Yours, in a test: `from minise.gradcheck import assert_gradients`. How it works:
      [check.py](../minise/gradcheck/check.py) and [slopes.py](../minise/gradcheck/slopes.py).

    Sources: Squire and Trapp, *Using complex variables to estimate derivatives of real functions*,
    SIAM Review 40 (1998); the notes of Stanford's course CS231n on gradient checks.
    """)
    return


if __name__ == "__main__":
    app.run()
