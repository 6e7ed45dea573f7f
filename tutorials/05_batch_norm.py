import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Batch normalisation")

with app.setup:
    import marimo as mo
    import numpy as np

    from minise.contract.case import Case
    from minise.grading.exercise import Exercise
    from minise.lessons import Arrays, table
    from minise.ops import reference as ops
    from minise.walk import trace


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 5. Batch normalisation: three routes, and why ones lie

    Batch normalisation gives every channel mean 0 and variance 1 over the batch. Forward it is
    six lines. Its backward is the first one in this course that people get wrong in silence. In
    this lesson you derive it, see what each of its three routes adds, and meet a gradient check
    that finds nothing although everything is missing.

    You need: derivatives, sums, NumPy's broadcasting.
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

    $\varepsilon = 10^{-5}$ keeps the root away from 0 where a channel is constant; by hand we may
    leave it out. rstd is the reciprocal of the standard deviation, one number a channel like mean
    and variance; in the exercise $\varepsilon$ counts, and rstd has it already. $\gamma$ and
    $\beta$ are learned, one of each a channel.

    Here are two images of one channel with 1 x 2 pixels.
    """)
    return


@app.cell
def _():
    x = np.array([[[[1.0, 3.0]]], [[[5.0, 7.0]]]])  # N = 2, C = 1, H = 1, W = 2: M = 4
    gamma, beta = np.array([2.0]), np.array([10.0])
    # what evaluation will use: forward asks for both, and training carries them on (see below)
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
    mo.md(r"""
    ## Backward, last line first

    `dv` stands for the gradient of the loss with respect to `v`, whatever `v` is, and `dout` is
    given. Undo one line after the other.

    `out = gamma * xhat + beta`. One $\beta$ serves $M$ numbers, so
    $d\beta = \sum \text{dout}$. Likewise $d\gamma = \sum \text{dout} \cdot \hat x$. And
    $d\hat x = \gamma \cdot \text{dout}$.

    `xhat = centred * rstd`. A product: each factor gets the other one.
    $d\text{rstd} = \sum d\hat x \cdot \text{centred}$, and the first part of $d\text{centred}$ is
    $d\hat x \cdot \text{rstd}$.

    `rstd = (var + eps) ** -0.5`. Its slope is $-\tfrac12 (\text{var} + \varepsilon)^{-3/2}$, which
    is $-\tfrac12 \text{rstd}^3$. So $d\text{var} = -\tfrac12 \text{rstd}^3 \, d\text{rstd}$.

    `var` = mean of `centred ** 2`. Its slope in one number is
    $\tfrac{2}{M} \text{centred}$. This is the second part:
    $d\text{centred} = d\hat x \cdot \text{rstd} + \tfrac{2}{M} d\text{var} \cdot \text{centred}$.

    `centred = x - mean`. $d\text{mean} = -\sum d\text{centred}$.

    `mean` = sum of `x / M`. $dx = d\text{centred} + d\text{mean} / M$.

    So $x$ has three routes to the loss: itself, the variance and the mean. Two of them get shorter.
    Let a bar be the mean over the channel. Into the variance's part put $d\text{var}$ and
    $d\text{rstd}$, then write $\text{centred} \cdot \text{rstd}$ as $\hat x$, twice:

    $$
    \begin{aligned}
    &\tfrac{2}{M} \, d\text{var} \cdot \text{centred}\\
    &= \tfrac{2}{M} \big({-\tfrac12} \text{rstd}^3\big)
    \big(\textstyle\sum \gamma \, \text{dout} \cdot \text{centred}\big) \, \text{centred}\\
    &= -\gamma \, \text{rstd} \, \hat x \, \overline{\text{dout} \, \hat x}
    \end{aligned}
    $$

    `centred` sums to 0, so this part drops out of the sum in $d\text{mean}$, and
    $d\text{mean} / M = -\gamma \, \text{rstd} \, \overline{\text{dout}}$. Put together, they are

    $$
    dx = \gamma \, \text{rstd} \, \big(\text{dout} - \overline{\text{dout}} -
    \hat x \, \overline{\text{dout} \, \hat x}\big)
    $$
    """)
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
    The loss looks at one number of `out` only. Yet all {dx.size} numbers of $x$ get a gradient,
    since all of them are in the mean and in the variance. The direct route alone would give
    {direct.ravel()[0]:.3f} to the first pixel. Through the mean every pixel gets
    {by_mean.ravel()[0]:.3f}. Through the variance the first one gets {by_variance.ravel()[0]:.3f},
    which makes {dx.ravel()[0]:.3f} in all. The sum of `dx` is {abs(dx.sum()):.0f}: adding a
    constant to the channel changes nothing, so the gradient has no part along a constant.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Move dout, and watch dx stand still

    Take a random `dout`, add a constant to it, and add a multiple of $\hat x$. The formula takes
    both off again. Move the sliders: what do they do to `dx`?
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
    swayed = noise + constant.value + multiple.value * (x - cache.mean[0]) * cache.rstd[0]
    Arrays(3, dout=swayed, dx=ops.batch_norm2d_backward(swayed, cache)[0])
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Why ones lie

    A popular way to test a backward pass takes the loss `out.sum()`. Then `dout` is 1 everywhere.
    You have just seen what batch normalisation does with a constant: `dx` is zero, whatever the
    input. Another popular loss is half the sum of squares, where `dout` is `out`. But `out` is a
    constant plus a multiple of $\hat x$. The mean of $\hat x$ is 0, and that of $\hat x^2$ is
    $\text{var} / (\text{var} + \varepsilon)$, nearly 1. So of $\hat x$ the formula leaves
    $\hat x - 0 - \hat x \cdot 1$: zero again, but for what $\varepsilon$ brings in.

    So here are three wrong backward passes, each tested with three choices of `dout`. The number
    is the largest error of `dx`.
    """)
    return


@app.cell
def _(running):
    def wrong_ways(dout, cache):
        """Return dx as people get it wrong, by name."""
        factor = (cache.gamma * cache.rstd)[:, None, None]
        xhat = (cache.x - cache.mean[:, None, None]) * cache.rstd[:, None, None]
        mean = dout.mean(axis=(0, 2, 3), keepdims=True)
        share = (dout * xhat).mean(axis=(0, 2, 3), keepdims=True)
        return {
            "always zero": np.zeros(dout.shape),
            "no route through the variance": factor * (dout - mean),
            "no gamma": (dout - mean - xhat * share) * cache.rstd[:, None, None],
        }

    rng = np.random.default_rng(1)
    image, scale, shift = (rng.standard_normal(shape) for shape in ((4, 1, 3, 3), 1, 1))
    values, kept = ops.batch_norm2d_forward(image, scale, shift, training=True, **running)
    choices = {
        "ones": np.ones(image.shape),
        "out": values,
        "random": rng.standard_normal(image.shape),
    }

    errors = {}
    for choice, given in choices.items():
        right, *_ = ops.batch_norm2d_backward(given, kept)
        for way, wrong in wrong_ways(given, kept).items():
            errors[way, choice] = float(np.max(abs(wrong - right)))
    return (errors,)


@app.cell(hide_code=True)
def _(errors):
    _ways = list(dict.fromkeys(way for way, _ in errors))
    _choices = list(dict.fromkeys(choice for _, choice in errors))
    _head = ["wrong dx", *(f"dout = {choice}" for choice in _choices)]
    _rows = [
        (
            way,
            *(
                f"{errors[way, choice]:.1g}" if errors[way, choice] > 1e-12 else "0"
                for choice in _choices
            ),
        )
        for way in _ways
    ]
    _blind, _half_blind = (
        sum(errors[way, choice] < 1e-3 for way in _ways) for choice in ("ones", "out")
    )
    mo.vstack(
        [
            mo.md(table(_head, _rows)),
            mo.md(f"""
    With ones, {_blind} of {len(_ways)} mistakes look right, even the backward that returns zero;
    with `out`, {_half_blind} of them are off by no more than ε brings in. A random `dout` shows
    all. That is why `minise.gradcheck` draws it at random, always.
    """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Training and evaluation

    In training, the batch's own mean and variance normalise. Meanwhile running averages of both
    are kept: `running += 0.1 * (batch - running)`. (The variance that goes into them is the sum of
    squares over $M - 1$, as usual for an estimate.) In evaluation these normalise, as constants.
    Then two of the three routes are gone, and $dx = \gamma \cdot \text{rstd} \cdot \text{dout}$.
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
    ## Two ways to a variance

    On paper, the variance is also $\overline{x^2} - \overline{x}^2$, which takes one pass over the
    image instead of two. Put the pixels far from zero, in float32, and see what is left of it:
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
    The variance is {_pixels.var():.5f}. Centred first, float32 finds {_centred:.5f}; as a
    difference {_difference:.5f}. What the difference subtracts are two numbers of about
    {(_rounded**2).mean():,.2f}, so their last digits are all that is left.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: the backward pass, in training

    Replace each `...` by one line, from top to bottom. After every line look at the answer below.
    A line marked ? cannot be judged yet: forward has nothing of that name, or a sum may still
    follow. `x`, `centred`, `xhat` and their gradients are (N, C, H, W); `gamma`, `mean`, `rstd`,
    the variance and their gradients `drstd`, `dvar`, `dmean` are (C,). To multiply both kinds,
    write `gamma[:, None, None]`.
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
                "One beta serves every pixel of every image.",
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
                "gamma is (C,): make it (C, 1, 1) by gamma[:, None, None].",
                "dxhat = dout * gamma[:, None, None]",
            ),
            "drstd": (
                "xhat = centred * rstd: rstd's factor is centred.",
                "One rstd serves the channel: sum dxhat * centred.",
                "drstd = (dxhat * centred).sum(axis=(0, 2, 3))",
            ),
            "dvar": (
                "rstd = (var + eps) ** -0.5. What is its slope?",
                "-0.5 * (var + eps) ** -1.5, which is -0.5 * rstd**3.",
                "dvar = -0.5 * rstd**3 * drstd",
            ),
            "dcentred": (
                "Two routes: centred is in xhat, and in the variance.",
                "The first gives dxhat * rstd, the second 2 / M * dvar * centred.",
                "dcentred = dxhat * rstd[:, None, None] + (2 / M * dvar)[:, None, None] * centred",
            ),
            "dmean": (
                "centred = x - mean, for every number of the channel.",
                "Minus the sum of dcentred.",
                "dmean = -dcentred.sum(axis=(0, 2, 3))",
            ),
            "dx": (
                "Two routes: x is in centred, and in the mean.",
                "Each x is one M-th of the mean: dmean / M.",
                "dx = dcentred + dmean[:, None, None] / M",
            ),
        },
        given=("M", "centred", "xhat"),
    )
    return (exercise,)


@app.cell(hide_code=True)
def _(exercise):
    answer = exercise.check(batch_norm2d_backward)
    if mo.app_meta().mode == "script":
        print(answer)
    answer
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Every number

    The op that trains, on the four numbers of this lesson, with the loss that looks at the first
    one only. Follow `dx` back to its routes.
    """)
    return


@app.cell
def _(beta, dout, gamma, running, x):
    trace("batch_norm2d", [x, gamma, beta], dout, training=True, **running)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What to take with you

    - What many numbers share is summed backward; what is a mean of many sends each its share.
    - In training, `dx` has no part along a constant nor along $\hat x$. So by `out.sum()` and
      by the sum of squares even a backward that returns zero looks right.
    - The variance is the mean of centred squares, and not a difference of two large numbers.
    - The op that trains is [norm.py](../minise/ops/reference/norm.py).

    Next: [squeeze and excitation](06_squeeze_and_excitation.py), whose gate is made of a mean too.

    Source: Ioffe and Szegedy, *Batch Normalization*, arXiv:1502.03167.
    """)
    return


if __name__ == "__main__":
    app.run()
