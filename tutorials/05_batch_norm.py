import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Batch normalisation")

with app.setup:
    import marimo as mo
    import numpy as np

    from minise.contract.case import Case
    from minise.grading.exercise import Exercise
    from minise.lessons import Arrays, Question, Task, by_gradients, judged, show, slopes, table
    from minise.ops import reference as ops
    from minise.pictures import batch_norm_axes
    from minise.walk import trace


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 5. Batch normalisation: three routes, and why dout must be random

    Batch normalisation gives every channel mean 0 and variance 1 over the batch. Forward is six
    lines. In this lesson you derive the backward, see the contribution of each of its three routes,
    and meet a gradient check that accepts a backward that always returns zero.

    You need: [the six rules](?file=01_chain_rule.py), NumPy's broadcasting, and the check along a
    direction of [lesson 2](?file=02_linear.py).
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Forward

    For one channel, with $M$ numbers in it (all pixels of all images of the batch):

    $$
    \begin{aligned}
    \text{mean} &= \tfrac{1}{M} \textstyle\sum x\\
    \text{centred} &= x - \text{mean}\\
    \text{var} &= \tfrac{1}{M} \textstyle\sum \text{centred}^2\\
    \text{rstd} &= 1 / \sqrt{\text{var} + \varepsilon}\\
    \hat x &= \text{centred} \cdot \text{rstd}\\
    \text{out} &= \gamma \hat x + \beta
    \end{aligned}
    $$

    $\varepsilon = 10^{-5}$ keeps the root away from 0 if a channel is constant; by hand we leave it
    out. rstd is the reciprocal of the standard deviation. Mean, variance and rstd are one number
    per channel. In the exercise $\varepsilon$ matters, and rstd already contains it. $\gamma$ and
    $\beta$ are learned, one of each per channel.

    Here are two images with one channel of 1 x 2 pixels.
    """)
    return


@app.cell
def _():
    x = np.array([[[[1.0, 3.0]]], [[[5.0, 7.0]]]])  # N = 2, C = 1, H = 1, W = 2: M = 4
    gamma, beta = np.array([2.0]), np.array([10.0])
    # the statistics for evaluation: forward requires both, and training updates them (see below)
    running = dict(running_mean=np.zeros(1), running_var=np.ones(1))

    out, cache = ops.batch_norm2d_forward(x, gamma, beta, training=True, **running)
    Arrays(x=x, mean=cache.mean, rstd=cache.rstd, out=out)
    return beta, cache, gamma, out, running, x


@app.cell(hide_code=True)
def _(beta, cache, gamma, out, x):
    _mean = x.mean()
    _centred = (x - _mean).ravel()
    _var = (_centred**2).mean()
    _first = gamma[0] * _centred[0] / np.sqrt(_var + cache.eps) + beta[0]
    assert np.isclose(_first, out.ravel()[0])
    mo.md(rf"""
    By hand: the mean is ({" + ".join(f"{v:g}" for v in x.ravel())}) / {x.size} = {_mean:g},
    centred is {", ".join(f"{v:g}" for v in _centred)}, and the variance is
    ({" + ".join(f"{v * v:g}" for v in _centred)}) / {x.size} = {_var:g}. So rstd =
    1 / √{_var:g} = {cache.rstd[0]:.3f}, and the first number of `out` is
    {gamma[0]:g} · ({_centred[0]:g}) · {cache.rstd[0]:.3f} + {beta[0]:g} = {_first:.2f}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(
                "Which numbers share a mean? In batch normalisation all numbers of a channel, in "
                "the whole batch. In squeeze and excitation, the subject of [lesson "
                "6](?file=06_squeeze_and_excitation.py), the pixels of one channel of one image."
            ),
            batch_norm_axes(),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Backward, last line first

    `dv` is the gradient of the loss with respect to `v`, for any `v`, and `dout` is given. We
    differentiate one line after the other.

    `out = gamma * xhat + beta`. $M$ numbers use the same $\beta$, so
    $d\beta = \sum \text{dout}$. Likewise $d\gamma = \sum \text{dout} \cdot \hat x$. And
    $d\hat x = \gamma \cdot \text{dout}$.

    `xhat = centred * rstd`. A product: the derivative in one factor is the other factor.
    $d\text{rstd} = \sum d\hat x \cdot \text{centred}$, and the first part of $d\text{centred}$ is
    $d\hat x \cdot \text{rstd}$.

    `rstd = (var + eps) ** -0.5`. Its derivative is
    $-\tfrac12 (\text{var} + \varepsilon)^{-3/2}$, which is $-\tfrac12 \text{rstd}^3$. So
    $d\text{var} = -\tfrac12 \text{rstd}^3 \, d\text{rstd}$.

    `var` = mean of `centred ** 2`. Its derivative in one number is
    $\tfrac{2}{M} \text{centred}$. This is the second part:
    $d\text{centred} = d\hat x \cdot \text{rstd} + \tfrac{2}{M} d\text{var} \cdot \text{centred}$.

    `centred = x - mean`. $d\text{mean} = -\sum d\text{centred}$.

    `mean` = sum of `x / M`. $dx = d\text{centred} + d\text{mean} / M$.

    So $x$ has three routes to the loss: directly, through the variance and through the mean. The
    last two can be simplified. Every mean is over the channel. Insert $d\text{var}$ and
    $d\text{rstd}$ into the part of the variance, then write $\text{centred} \cdot \text{rstd}$ as
    $\hat x$, twice:

    $$
    \begin{aligned}
    &\tfrac{2}{M} \, d\text{var} \cdot \text{centred}\\
    &= \tfrac{2}{M} \big({-\tfrac12} \text{rstd}^3\big)
    \big(\textstyle\sum \gamma \, \text{dout} \cdot \text{centred}\big) \, \text{centred}\\
    &= -\gamma \, \text{rstd} \, \hat x \, \operatorname{mean}(\text{dout} \, \hat x)
    \end{aligned}
    $$

    This part removes from the gradient what is proportional to $\hat x$: to multiply all centred
    numbers of a channel by one factor does not change `out` (but for $\varepsilon$), because `rstd`
    undoes it. And `centred` sums to 0, so this part drops out of the sum in $d\text{mean}$, and
    $d\text{mean} / M = -\gamma \, \text{rstd} \, \operatorname{mean}(\text{dout})$. The sum of the
    three routes is

    $$
    dx = \gamma \, \text{rstd} \, \big(\text{dout} - \operatorname{mean}(\text{dout}) -
    \hat x \, \operatorname{mean}(\text{dout} \, \hat x)\big)
    $$
    """)
    return


@app.cell(hide_code=True)
def _(cache, x):
    _dout = np.zeros(x.shape)
    _dout[0, 0, 0, 0] = 1.0
    _dx = ops.batch_norm2d_backward(_dout, cache)[0]
    show(
        Question(
            f"""
            Let the loss be the first number of `out` only: `dout` is 1 there, and 0 elsewhere. How
            many of the {x.size} numbers of $x$ get a gradient, and what is the sum of `dx`?
            """,
            f"""
            All {np.count_nonzero(_dx)}, because the mean and the variance depend on all of them.
            The sum is {abs(_dx.sum()):.0f}: a constant added to the channel does not change `out`,
            so the gradient has no component along a constant.
            """,
        )
    )
    return


@app.cell
def _(cache, gamma, x):
    dout = np.zeros(x.shape)
    dout[0, 0, 0, 0] = 1.0  # the loss is the first number of out

    factor = gamma[0] * cache.rstd[0]
    xhat = (x - cache.mean[0]) * cache.rstd[0]
    direct = factor * dout
    by_mean = np.full(x.shape, -factor * dout.mean())
    by_variance = -factor * xhat * (dout * xhat).mean()

    dx, dgamma, dbeta = ops.batch_norm2d_backward(dout, cache)
    assert np.allclose(direct + by_mean + by_variance, dx)
    Arrays(3, dout=dout, direct=direct, by_mean=by_mean, by_variance=by_variance, dx=dx)
    return by_mean, by_variance, direct, dout, dx


@app.cell(hide_code=True)
def _(by_mean, by_variance, direct, dx):
    mo.md(rf"""
    Follow the three routes of one number. By the direct route the first pixel
    gets {direct.ravel()[0]:.3f}. Through the mean every pixel gets
    {by_mean.ravel()[0]:.3f}. Through the variance the first pixel gets
    {by_variance.ravel()[0]:.3f}, so its gradient is {dx.ravel()[0]:.3f}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Changes of dout that do not change dx

    Take a random `dout`, add a constant to it, and add a multiple of $\hat x$.
    """)
    return


@app.cell(hide_code=True)
def _(cache, x):
    _dout = np.random.default_rng(0).standard_normal(x.shape)
    _first = [ops.batch_norm2d_backward(_dout + c, cache)[0].ravel()[0] for c in (0, 5)]
    show(
        Question(
            """
            Add 5 to every number of `dout`. By how much does the gradient of the first pixel
            change?
            """,
            f"""
            Not at all: it is {_first[0]:.4f} before and {_first[1]:.4f} after. The formula
            subtracts the mean of `dout`, and with it any constant. In the same way it subtracts a
            multiple of $\\hat x$, up to the effect of ε.
            """,
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Move the sliders: does `dx` change?
    """)
    return


@app.cell
def _():
    constant = mo.ui.slider(-5, 5, step=0.5, value=0, label="constant", show_value=True)
    multiple = mo.ui.slider(-5, 5, step=0.5, value=0, label="multiple of x̂", show_value=True)
    mo.vstack([constant, multiple])
    return constant, multiple


@app.cell
def _(cache, constant, multiple, x):
    noise = np.random.default_rng(0).standard_normal(x.shape)
    moved_dout = noise + constant.value + multiple.value * (x - cache.mean[0]) * cache.rstd[0]
    Arrays(3, dout=moved_dout, dx=ops.batch_norm2d_backward(moved_dout, cache)[0])
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Why dout must be random

    A popular way to test a backward pass takes the loss `out.sum()`. Then `dout` is 1 everywhere.
    You have just seen that batch normalisation subtracts a constant: `dx` is zero for every
    input. Another popular loss is half the sum of squares, where `dout` is `out`. But `out` is a
    constant plus a multiple of $\hat x$. The mean of $\hat x$ is 0, and the mean of $\hat x^2$ is
    $\text{var} / (\text{var} + \varepsilon)$, nearly 1. So for $\text{dout} = \hat x$ the formula
    gives $\hat x - 0 - \hat x \cdot 1$: zero again, except for the effect of $\varepsilon$.

    Here are the right backward and three wrong ones, each with three choices of `dout`, tested with
    the check of [lesson 2](?file=02_linear.py): `slopes` computes the slope of
    $\langle \text{dout}, \text{out} \rangle$ along a random direction by backward and by forward.
    The number is the difference of the two.
    """)
    return


@app.cell
def _(running):
    def with_terms(formula):
        """Return a backward that computes dx from gamma, rstd, xhat and the two means."""

        def backward(dout, cache):
            gamma, rstd, mean = (v[:, None, None] for v in (cache.gamma, cache.rstd, cache.mean))
            xhat = (cache.x - mean) * rstd
            mean_dout = dout.mean(axis=(0, 2, 3), keepdims=True)
            mean_product = (dout * xhat).mean(axis=(0, 2, 3), keepdims=True)
            return formula(dout, gamma * rstd, gamma, mean_dout, xhat * mean_product)

        return backward

    ways = {
        "right": with_terms(lambda dout, f, gamma, a, b: f * (dout - a - b)),
        "always zero": with_terms(lambda dout, f, gamma, a, b: 0 * dout),
        "no route through the variance": with_terms(lambda dout, f, gamma, a, b: f * (dout - a)),
        "no gamma": with_terms(lambda dout, f, gamma, a, b: f / gamma * (dout - a - b)),
    }

    rng = np.random.default_rng(0)
    image, scale, shift = (rng.standard_normal(shape) for shape in ((4, 1, 3, 3), 1, 1))
    direction = rng.standard_normal(image.shape)

    def norm(pixels):
        return ops.batch_norm2d_forward(pixels, scale, shift, training=True, **running)

    choices = {
        "ones": np.ones(image.shape),
        "out": norm(image)[0],
        "random": rng.standard_normal(image.shape),
    }
    errors = {}
    for choice, chosen_dout in choices.items():
        for way, backward in ways.items():
            by_backward, by_forward = slopes(norm, backward, image, chosen_dout, direction)
            errors[way, choice] = abs(by_backward - by_forward)
    return (errors,)


@app.cell(hide_code=True)
def _(errors):
    _ways = list(dict.fromkeys(way for way, _ in errors))
    _choices = list(dict.fromkeys(choice for _, choice in errors))
    _head = ["dx", *(f"dout = {choice}" for choice in _choices)]
    _rows = [
        (
            way,
            *(f"{errors[way, choice]:.0e}" for choice in _choices),
        )
        for way in _ways
    ]
    _accepted = {
        choice: [way for way in _ways[1:] if errors[way, choice] < 1e-3] for choice in _choices
    }
    mo.vstack(
        [
            mo.md(table(_head, _rows)),
            mo.md(f"""
    The row of the right backward shows the rounding of a difference. A test that allows 0.001
    accepts {len(_accepted["ones"])} of the {len(_ways) - 1} mistakes with ones, even the backward
    that returns zero; {len(_accepted["out"])} with `out`, whose error is only the effect of ε; and
    {len(_accepted["random"])} with a random `dout`. That is why `minise.gradcheck` always uses a
    random `dout`.
    """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Training and evaluation

    In training, the layer normalises with the mean and variance of the batch. It also updates
    running averages of both: `running += 0.1 * (batch - running)`. (The running variance uses the
    sum of squares over $M - 1$, the usual estimate.) In evaluation the layer normalises with the
    running averages, which are constants. Then two of the three routes disappear, and
    $dx = \gamma \cdot \text{rstd} \cdot \text{dout}$.
    """)
    return


@app.cell
def _(beta, cache, gamma, x):
    later = dict(running_mean=cache.running_mean, running_var=cache.running_var)
    evaluated, _ = ops.batch_norm2d_forward(x, gamma, beta, training=False, **later)
    Arrays(running_mean=cache.running_mean, running_var=cache.running_var, evaluated=evaluated)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Two formulas for the variance

    In exact arithmetic, the variance is also
    $\operatorname{mean}(x^2) - \operatorname{mean}(x)^2$, which needs one pass over the image
    instead of two.
    """)
    return


@app.cell(hide_code=True)
def _():
    _pixels = 1000 + np.random.default_rng(0).standard_normal(4096) / 10
    _rounded = _pixels.astype(np.float32)
    show(
        Question(
            f"""
            {len(_pixels):,} pixels have the mean {_pixels.mean():.0f} and the variance
            {_pixels.var():.4f}. How far from it is the difference of the two means, in float32,
            which has about seven digits?
            """,
            f"""
            It is {(_rounded**2).mean() - _rounded.mean() ** 2:.4f}: a *negative* variance, whose
            root is not a number. Both means are about {(_rounded**2).mean():,.0f}, and
            neighbouring float32 numbers there are {np.spacing((_rounded**2).mean()):g} apart. The
            mean of centred squares is {((_rounded - _rounded.mean()) ** 2).mean():.4f}.
            """,
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Move the pixels away from zero, and compare both formulas in float32:
    """)
    return


@app.cell
def _():
    far = mo.ui.slider(steps=[0, 10, 100, 1000, 10000], value=1000, label="mean", show_value=True)
    far
    return (far,)


@app.cell(hide_code=True)
def _(far):
    _pixels = far.value + np.random.default_rng(0).standard_normal(4096) / 10
    _rounded = _pixels.astype(np.float32)
    _centred = ((_rounded - _rounded.mean()) ** 2).mean()
    _difference = (_rounded**2).mean() - _rounded.mean() ** 2
    mo.md(f"""
    The variance is {_pixels.var():.5f}. In float32, the mean of centred squares is {_centred:.5f};
    the difference is {_difference:.5f}. The difference subtracts two numbers of about
    {(_rounded**2).mean():,.2f}, so only their last digits remain (cancellation).
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: the backward pass, in training

    Replace each `...` by one line, from top to bottom. After every line look at the answer below.
    A line marked ? cannot be judged yet: forward has no array of that name, or a sum may still
    follow. `x`, `centred`, `xhat` and their gradients are (N, C, H, W); `gamma`, `mean`, `rstd`,
    the variance and their gradients `drstd`, `dvar`, `dmean` are (C,). To multiply an array of
    shape (C,) with one of shape (N, C, H, W), write `gamma[:, None, None]`.
    """)
    return


@app.function
def batch_norm2d_backward(dout, cache):
    x, gamma, beta, mean, rstd, *_ = cache
    M = x.size // len(gamma)
    centred = x - mean[:, None, None]
    xhat = centred * rstd[:, None, None]
    dbeta = ...
    dgamma = ...
    dxhat = ...
    drstd = ...
    dvar = ...
    dcentred = ...
    dmean = ...
    dx = ...
    return dx, dgamma, dbeta


@app.cell(hide_code=True)
def _():
    exercise = Exercise(
        [
            Case("batch_norm2d", dict(N=1, C=1, H=1, W=3), dict(training=True)),
            Case("batch_norm2d", dict(N=2, C=1, H=1, W=2), dict(training=True)),
            Case("batch_norm2d", dict(N=2, C=3, H=5, W=4), dict(training=True)),
        ],
        hints={
            "dbeta": (
                "Every pixel of every image uses the same beta.",
                "Sum dout over all axes but the channels: axis=(0, 2, 3).",
                "dbeta = dout.sum(axis=(0, 2, 3))",
            ),
            "dgamma": (
                "out = gamma * xhat + beta: gamma's factor is xhat.",
                "Sum as for dbeta.",
                "dgamma = (dout * xhat).sum(axis=(0, 2, 3))",
            ),
            "dxhat": (
                "out = gamma * xhat + beta: xhat's factor is gamma.",
                "gamma is (C,): gamma[:, None, None] is (C, 1, 1).",
                "dxhat = dout * gamma[:, None, None]",
            ),
            "drstd": (
                "xhat = centred * rstd: rstd's factor is centred.",
                "The whole channel uses one rstd: sum dxhat * centred.",
                "drstd = (dxhat * centred).sum(axis=(0, 2, 3))",
            ),
            "dvar": (
                "rstd = (var + eps) ** -0.5. What is its derivative?",
                "-0.5 * (var + eps) ** -1.5, which is -0.5 * rstd**3.",
                "dvar = -0.5 * rstd**3 * drstd",
            ),
            "dcentred": (
                "Two routes: centred is used by xhat and by the variance.",
                "The first gives dxhat * rstd, the second 2 / M * dvar * centred.",
                "dcentred = dxhat * rstd[:, None, None] + (2 / M * dvar)[:, None, None] * centred",
            ),
            "dmean": (
                "centred = x - mean, for every number of the channel.",
                "Minus the sum of dcentred.",
                "dmean = -dcentred.sum(axis=(0, 2, 3))",
            ),
            "dx": (
                "Two routes: x is used by centred and by the mean.",
                "Each x is one M-th of the mean: dmean / M.",
                "dx = dcentred + dmean[:, None, None] / M",
            ),
        },
        given=("M", "centred", "xhat"),
    )
    return (exercise,)


@app.cell(hide_code=True)
def _(exercise):
    judged(exercise, batch_norm2d_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Task: layer normalisation, without a skeleton

    Layer normalisation takes mean and variance over the $D$ numbers of each *sample*, and gives
    each of the $D$ positions its own $\gamma$ and $\beta$. For `x` of shape (N, D):
    `xhat = (x - mean) * rstd` with a mean and rstd for each row, and `out = gamma * xhat + beta`.
    The cache is `xhat, rstd, gamma`, with `rstd` of shape (N, 1). Write the whole backward and
    return `dx, dgamma, dbeta`. What changes in the formula above, if $\gamma$ is not constant along
    the axis of the mean?
    """)
    return


@app.function
def layer_norm_backward(dout, cache):
    """Return dx, dgamma and dbeta of out = gamma * xhat + beta."""
    ...


@app.cell(hide_code=True)
def _():
    def layer_norm(x, gamma, beta):
        """Return out and the cache."""
        centred = x - x.mean(axis=1, keepdims=True)
        rstd = ((centred**2).mean(axis=1, keepdims=True) + 1e-5) ** -0.5
        xhat = centred * rstd
        return gamma * xhat + beta, (xhat, rstd, gamma)

    _rng = np.random.default_rng(0)
    task = Task(
        by_gradients(
            layer_norm,
            [_rng.standard_normal(shape) for shape in ((3, 5), 5, 5)],
            names=["x", "gamma", "beta"],
        ),
        hints=(
            "All samples use the same gamma and beta: sum over the axis of the samples.",
            "dxhat = gamma * dout. Batch normalisation's formula could take gamma out of both "
            "means; here gamma varies along the axis of the mean, so it stays inside.",
            "dx = rstd * (dxhat - mean of dxhat - xhat * mean of dxhat * xhat), the means over "
            "axis 1 with keepdims=True.",
        ),
        solution="""
            def layer_norm_backward(dout, cache):
                xhat, rstd, gamma = cache
                dbeta = dout.sum(axis=0)
                dgamma = (dout * xhat).sum(axis=0)
                dxhat = gamma * dout
                by_mean = dxhat.mean(axis=1, keepdims=True)
                by_variance = xhat * (dxhat * xhat).mean(axis=1, keepdims=True)
                dx = rstd * (dxhat - by_mean - by_variance)
                return dx, dgamma, dbeta
        """,
    )
    return (task,)


@app.cell(hide_code=True)
def _(task):
    judged(task, layer_norm_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Every number

    The training code on the four numbers of this lesson, with the loss that depends on the first
    number of `out` only. Follow `dx` back along its routes. It sums `drstd` and `dmean` in another
    way than your exercise: the sums over `dxhat` that they need are `dgamma` and `dbeta` times
    `gamma`, and these have been computed already.
    """)
    return


@app.cell
def _(beta, dout, gamma, running, x):
    trace("batch_norm2d", [x, gamma, beta], dout, training=True, **running)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Summary

    - The gradient of a number with many uses is a sum; the gradient of a mean goes to all numbers
      in equal shares.
    - In training, `dx` has no component along a constant, and almost none along $\hat x$. So with
      the loss `out.sum()` or the sum of squares, even a backward that returns zero looks right.
    - Compute the variance as the mean of centred squares, not as a difference of two large numbers.
    - The training code is `minise/ops/reference/norm.py`.

    Next: [squeeze and excitation](?file=06_squeeze_and_excitation.py), whose gate depends on a mean
    too.

    Source: Ioffe and Szegedy, *Batch Normalization*, arXiv:1502.03167.
    """)
    return


if __name__ == "__main__":
    app.run()
