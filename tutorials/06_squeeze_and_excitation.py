import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Squeeze and excitation")

with app.setup:
    from types import SimpleNamespace

    import marimo as mo
    import numpy as np

    from minise import data, models, train
    from minise.analysis.intervals import mean_interval
    from minise.contract.case import Case
    from minise.grading.exercise import Exercise
    from minise.lessons import Arrays, Plot, Question, Task, by_gradients, judged, python_of, show
    from minise.nn import SE, Build, GlobalAvgPool2d, basic_block
    from minise.ops import reference as ops
    from minise.pictures import se_block
    from minise.site.measurements.record import read_result
    from minise.walk import trace


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 6. Squeeze and excitation: one input, two routes

    An output of a convolution depends on a few neighbouring pixels. A squeeze-and-excitation block
    uses the whole image to choose a factor for each channel. In this lesson you compute such a
    block by hand, see why its gradient is a sum of two terms, and write its backward pass.

    You need: [batch normalisation](?file=05_batch_norm.py) (the gradient of a mean goes to all of
    its numbers) and matrix products.
    """)
    return


@app.cell(hide_code=True)
def _():
    _pairs = read_result("pairs")
    _accuracy = {(run["kind"], run["seed"]): run["test_accuracy"] for run in _pairs["runs"]}
    _seeds = sorted({seed for _, seed in _accuracy})
    _gains = [100 * (_accuracy["se", seed] - _accuracy["plain", seed]) for seed in _seeds]
    _gain = mean_interval(_gains)
    _verdict = (
        "The interval contains 0: so few pairs do not show that the blocks help a net so small"
        if _gain.low <= 0 <= _gain.high
        else "The interval does not contain 0"
    )
    _plain = models.build("resnet20").parameter_count
    _se = models.build("se_resnet20", reduction=4).parameter_count  # as in these runs
    mo.md(f"""
    ## Why anyone wants it

    A weak answer of a filter for wheels means more in an image with windows and a road than in one
    with leaves. But a convolution sees a few pixels, and learns of the rest only after many
    layers. The block gives every layer a summary of the whole image at once, and lets it turn
    channels up and down. It is cheap, because the gates are computed from one number per channel.
    The paper adds it to every net that it studies, and reports fewer errors on ImageNet for each.

    Is it so for a small net? ResNet-20 with and without the blocks was trained on CIFAR-10, from
    the same initial values and on the same batches, with {_gain.n} seeds. The differences in test
    accuracy are {", ".join(f"{gain:+.2f}" for gain in _gains)} percentage points, on average
    {_gain.mean:+.2f}, with a 95 % interval from {_gain.low:+.2f} to {_gain.high:+.2f}. {_verdict}.
    The blocks add {(_se - _plain) / _plain:.1%} to the parameters. The article
    `tutorials/article.md` tells more of this measurement, and shows what the gates of a trained net
    do by class and depth.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Six lines

    For every image $n$ and channel $c$, and $R$ hidden units (the numbers in the middle, $h$),
    fewer than there are channels:

    $$
    \begin{aligned}
    z &= \text{mean of } x \text{ over } H, W\\
    u &= w_1 z + b_1\\
    h &= \max(u, 0)\\
    v &= w_2 h + b_2\\
    s &= \operatorname{sigmoid}(v) = 1 / (1 + e^{-v})\\
    \text{out} &= x \cdot s
    \end{aligned}
    $$

    *Squeeze*: $z$ is one number per channel. *Excite*: two dense layers, each a matrix product plus
    a bias, from $C$ numbers to $R$ and back to $C$. Between them is a ReLU, $\max(u, 0)$, and after
    them a sigmoid; $s$ is one gate per channel, between 0 and 1. *Scale*: every pixel is multiplied
    by the gate of its channel.

    Here is one image with two channels of 1 x 2 pixels and one hidden unit. The numbers are small
    enough for pencil and paper. Compute them once: it takes two minutes.
    """)
    return


@app.cell
def _():
    x = np.array([[[[1.0, 3.0]], [[2.0, 0.0]]]])  # N = 1, C = 2, H = 1, W = 2
    w1, b1 = np.array([[1.0, -0.5]]), np.array([0.0])  # R = 1 hidden unit
    w2, b2 = np.array([[2.0], [-2.0]]), np.array([0.0, 0.0])

    out, cache = ops.squeeze_excite_forward(x, w1, b1, w2, b2)
    z, h, s = (a[:, :, 0, 0] for a in (cache.gates.z, cache.gates.h, cache.gates.s))
    Arrays(x=x, z=z, h=h, s=s, out=out)
    return b1, b2, cache, out, w1, w2, x


@app.cell(hide_code=True)
def _(b1, b2, cache, w1, w2, x):
    _z = [x[0, c].mean() for c in range(2)]
    _u = float(w1[0] @ _z + b1[0])
    _v = w2[:, 0] * max(_u, 0) + b2
    _s = 1 / (1 + np.exp(-_v))
    _first, _second = (
        "passes almost unchanged"
        if gate > 0.9
        else "is almost closed"
        if gate < 0.1
        else "is partly open"
        for gate in _s
    )
    assert np.allclose(_s, cache.gates.s.ravel())
    mo.md(rf"""
    By hand: the means are $z = ({_z[0]:g}, {_z[1]:g})$, so
    $u = {w1[0, 0]:g} \cdot {_z[0]:g} {w1[0, 1]:+g} \cdot {_z[1]:g} = {_u:g}$ and
    $h = {max(_u, 0):g}$. Then $v = ({_v[0]:g}, {_v[1]:g})$ and
    $s = ({_s[0]:.3f}, {_s[1]:.3f})$. The first channel {_first}, the second
    {_second}.

    The function that we called, `ops.squeeze_excite_forward`, is the one that our nets use in
    training.
    """)
    return


@app.cell(hide_code=True)
def _(cache, out):
    _dout = np.zeros(out.shape)
    _dout[0, 0, 0, 0] = 1
    _dx = ops.squeeze_excite_backward(_dout, cache)[0]
    show(
        Question(
            r"""
    Suppose that the loss depends on one pixel of out only, the first pixel of the first channel:
    $\partial L / \partial \text{out}$ is 1 there and 0 elsewhere. How many of the four pixels of
    $x$ get a gradient that is not 0? Does the loss increase or decrease if a pixel of the *second*
    channel gets brighter?
    """,
            rf"""
    {np.count_nonzero(_dx)} of {_dx.size}. Each pixel is part of a mean, the first gate depends on
    both means, and the gate multiplies the pixel that counts. A brighter second channel
    {"decreases" if _dx[0, 1, 0, 0] < 0 else "increases"} the loss: the gradient there is
    {_dx[0, 1, 0, 0]:.3f}, because its weight in $w_1$ is {cache.gates.w1[0, 1]:g}, so $u$, $v$ and
    the first gate become smaller.
    """,
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    ## Two routes

    Let $L$ be the loss, and write `da` for $\partial L / \partial a$, for any $a$; `dout` is given.
    Now follow one pixel of $x$ forward. It affects `out` in two ways:

    1. **through the scale.** $\text{out} = x \cdot s$: the pixel itself is multiplied by its gate.
       This gives $dx_\text{scale} = \text{dout} \cdot s$.
    2. **through the gate.** The pixel is part of the mean $z$, all gates depend on the mean, and
       the gates multiply all channels. This gives $dz / (H W)$, because the pixel has a share of
       $1/(HW)$ in its mean.

    The chain rule adds them:

    $$ dx = \text{dout} \cdot s \;+\; \frac{dz}{H W} $$
    """),
            se_block(),
            mo.md(r"""
    For $dz$ go back line by line, last line first. $HW$ pixels use the same gate, so its gradient
    is a sum over them: $ds = \sum_{H, W} \text{dout} \cdot x$. The derivative of the sigmoid is
    $\partial s / \partial v = e^{-v} / (1 + e^{-v})^2 = s (1 - s)$, so $dv = ds \cdot s (1 - s)$.

    In $v = w_2 h + b_2$ the number $h_r$ is a term of every $v_c$ with the factor $w_2[c, r]$. So
    $dh_r = \sum_c w_2[c, r] \, dv_c$, that is $dh = w_2^T dv$. The ReLU passes the gradient where
    $u > 0$: $du = dh$ there, and $du = 0$ elsewhere. Likewise $dz = w_1^T du$.

    Now the parameters. The entry $w_2[c, r]$ multiplies $h_r$ in $v_c$, in every image $n$. So
    $dw_2 = \sum_n dv \, h^T$, an outer product of a column and a row for each image, and
    $db_2 = \sum_n dv$. The first layer is the same: $dw_1 = \sum_n du \, z^T$ and
    $db_1 = \sum_n du$.
    """),
        ]
    )
    return


@app.cell
def _(cache, out):
    dout = np.zeros(out.shape)
    dout[0, 0, 0, 0] = 1.0  # the loss depends on this pixel only

    dx, dw1, db1, dw2, db2 = ops.squeeze_excite_backward(dout, cache)
    scale_route = dout * cache.gates.s
    gate_route = dx - scale_route
    Arrays(3, dout=dout, through_the_scale=scale_route, through_the_gate=gate_route, dx=dx)
    return dout, dx, gate_route, scale_route


@app.cell(hide_code=True)
def _(dx, gate_route):
    mo.md(rf"""
    The loss depends on one pixel of `out` only, and yet all {dx.size} pixels of $x$ get a gradient.
    The first route is local. The second route is not: each pixel of the *other* channel gets
    {gate_route[0, 1, 0, 0]:.3f}, because the gate of the first channel depends on the mean of the
    second channel.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The bug that still trains

    Suppose that somebody forgets the second route. All gradients of the parameters of the block
    stay right; only `dx` misses a term, and so do the gradients of all layers before it. Does the
    net still train? A back end is an object with functions, so a wrong one takes a few lines. (Our
    nets call `se_block_tail`, which is batch normalisation, the block of this lesson, the sum of
    lesson 7 and a ReLU. Its cache contains $w_1$, which backward reads only to compute
    $dz = w_1^T du$: with zeros in its place $dz = 0$, and the second route is gone.)

    We train a small net with one SE block on 32 images of ten classes, with the right and with the
    wrong backward, from the same initial values, and repeat it with other initial values.
    (Lesson 8 explains the loss and the training step.)
    """)
    return


@app.cell
def _():
    def without_gate_route(dout, cache):
        gates = cache.gates._replace(w1=np.zeros_like(cache.gates.w1))
        return ops.se_block_tail_backward(dout, cache._replace(gates=gates))

    wrong_ops = SimpleNamespace(**{**vars(ops), "se_block_tail_backward": without_gate_route})
    images = data.shapes10("train", n=32)
    pixels = (images.images[:, :, ::4, ::4] / 255 - 0.5).astype(np.float32)  # 8 x 8

    def train_net(backend, seed, steps=20):
        """Return the loss before each step, and the first gradient as one vector."""
        build = Build(ops=backend, rng=seed, se=SE(reduction=2))
        net = build.chain(
            ("conv", build.conv(3, 16, 3)),
            ("bn", build.norm_relu(16)),
            ("block", basic_block(16, 16, 1, build)),
            ("pool", GlobalAvgPool2d(ops=backend)),
            ("fc", build.linear(16, 10)),
        )
        optimiser = train.SGD(net, momentum=0.9)
        losses, gradients = [], []
        for _ in range(steps):
            scores, net_cache = net.forward(pixels, training=True)
            loss, loss_cache = ops.softmax_cross_entropy_forward(scores, images.labels)
            dloss = np.asarray(1.0, np.float32)
            dscores, _ = ops.softmax_cross_entropy_backward(dloss, loss_cache)
            _, grads = net.backward(dscores, net_cache)
            optimiser.step(grads, lr=0.1)
            losses.append(float(loss))
            gradients.append(np.concatenate([value.ravel() for value in grads.values()]))
        return losses, gradients[0]

    seeds = range(6)
    runs = {
        name: [train_net(backend, seed) for seed in seeds]
        for name, backend in (("both routes", ops), ("without the gate's route", wrong_ops))
    }
    losses = {name: np.array([run[0] for run in both]) for name, both in runs.items()}
    _pairs = list(zip(*([run[1] for run in both] for both in runs.values()), strict=True))
    cosines = np.array([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in _pairs])
    missing = np.array([np.linalg.norm(a - b) / np.linalg.norm(a) for a, b in _pairs])
    return cosines, losses, missing, train_net, without_gate_route


@app.cell(hide_code=True)
def _(without_gate_route, train_net):
    _as_page = mo.app_meta().mode == "run"  # this mode does not show the code of cells
    mo.md(python_of(without_gate_route, train_net)) if _as_page else None
    return


@app.cell(hide_code=True)
def _(cosines, losses):
    show(
        Question(
            """
    Is the wrong gradient of the whole net nearly orthogonal to the right one
    (cosine 0.1), at 45 degrees (0.7), or nearly parallel (0.99)? And does the loss decrease?
    """,
            f"""
    Nearly parallel: the cosine is {cosines.mean():.3f} on average. The loss decreases for
    {sum(run[-1] < run[0] for run in losses["without the gate's route"])} of {len(cosines)} initial
    values. Most of the gradient takes the first route, through the scale.
    """,
        )
    )
    return


@app.cell(hide_code=True)
def _(cosines, losses, missing):
    _right, _wrong = losses.values()
    _worse = (_wrong - _right)[:, -1]
    _long = read_result("bug_that_trains")
    _cosine = np.mean([run["cosine"] for run in _long["runs"]])
    _plot = Plot(2.2, columns=2)
    for _name, _values in losses.items():
        _plot.axes[0].plot(_values.mean(axis=0), label=_name)
    _plot.axes[0].set_title("mean loss", fontsize=10)
    _plot.axes[0].legend(fontsize=8)
    _plot.axes[1].plot((_wrong - _right).T, color="0.5", lw=1)
    _plot.axes[1].axhline(0, color="k", lw=0.8)
    _plot.axes[1].set_title("wrong minus right, each run", fontsize=10)
    for _axes in _plot.axes:
        _axes.set_xlabel("step")
        _axes.locator_params(axis="x", integer=True, nbins=5)
    mo.vstack(
        [
            _plot,
            mo.md(f"""
    (Left: mean over {len(_right)} initial values. Right: one line for each.) The first wrong
    gradient differs from the right one by {missing.min():.0%} to {missing.max():.0%} of its norm,
    and points in nearly the same direction: the cosine of the angle is {cosines.min():.3f} to
    {cosines.max():.3f}. So the loss decreases from {_wrong[:, 0].mean():.2f} to
    {_wrong[:, -1].mean():.2f}, against {_right[:, -1].mean():.2f} with the right gradient. Only
    with the right run beside it do you see that something is wrong: the loss of the wrong run
    ends higher for {np.sum(_worse > 0)} of {len(_worse)} initial values, by {_worse.mean():.2f} on
    average, while two right runs with different initial values differ by up to
    {np.ptp(_right[:, -1]):.2f}. A gradient check shows the mistake at once: lesson 9.

    The same with a whole {_long["settings"]["model"]} and {len(_long["runs"])} initial values, in
    `tutorials/article.md`: there the mean cosine is {_cosine:.3f}.
    """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    _s = {v: 1 / (1 + np.exp(-v)) for v in (0, 6)}
    show(
        Question(
            r"""
    A gate with $v = 0$ is half open, a gate with $v = 6$ is open to
    $1 / (1 + e^{-6})$. Both get the same $ds$. How many times smaller is the gradient $dv$ of the
    second gate: 2, 10 or 100 times?
    """,
            rf"""
    $dv = ds \cdot s (1 - s)$. At $v = 0$ the factor is
    ${_s[0]:g} \cdot {1 - _s[0]:g} = {_s[0] * (1 - _s[0]):g}$, at $v = 6$ it is
    ${_s[6]:.4f} \cdot {1 - _s[6]:.4f} = {_s[6] * (1 - _s[6]):.4f}$:
    {_s[0] * (1 - _s[0]) / (_s[6] * (1 - _s[6])):.0f} times smaller.
    """,
        )
    )
    return


@app.cell(hide_code=True)
def _():
    _slope = {v: np.exp(-v) / (1 + np.exp(-v)) ** 2 for v in (0, 6)}
    mo.md(rf"""
    ## The gate saturates

    Choose $v$ of the first channel. The closer the gate is to 0 or 1, the smaller is its derivative
    $s(1-s)$, and the smaller are the gradients through the gate: those of its parameters, and the
    second route of $dx$. A gate that is almost open or closed learns next to nothing: at $v = 0$
    the derivative is {_slope[0]:.2f}, and at $v = \pm 6$ it is {_slope[6]:.4f},
    {_slope[0] / _slope[6]:.0f} times smaller. It is never 0, so the gate is slow, not stuck.
    """)
    return


@app.cell
def _():
    gate_input = mo.ui.slider(-6, 6, step=0.5, value=2, label="v", show_value=True)
    gate_input
    return (gate_input,)


@app.cell(hide_code=True)
def _(gate_input):
    _v = np.linspace(-6, 6, 121)
    _s, _here = 1 / (1 + np.exp(-_v)), 1 / (1 + np.exp(-gate_input.value))
    _plot = Plot(2.2)
    _axes = _plot.axes
    _axes.plot(_v, _s, label="gate  s")
    _axes.plot(_v, _s * (1 - _s), label="its derivative  s (1 - s)")
    _axes.plot([gate_input.value] * 2, [_here, _here * (1 - _here)], "ko")
    _axes.set_xlabel("v")
    _axes.legend()
    mo.vstack(
        [
            _plot,
            mo.md(
                f"v = {gate_input.value}: s = {_here:.4f}, s (1 - s) = {_here * (1 - _here):.4f}"
            ),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What a block costs

    The two matrices have $2 C R$ numbers and the biases $R + C$, with $R = C / r$. The reduction
    $r$ is the main setting of the block. The paper uses 16. In the narrow nets that we
    train on small images 16 would leave one hidden unit for 16 channels; we use 4.
    """)
    return


@app.cell
def _():
    reduction = mo.ui.slider(steps=[2, 4, 8, 16], value=4, label="reduction r", show_value=True)
    reduction
    return (reduction,)


@app.cell(hide_code=True)
def _(reduction):
    _plain = models.build("resnet20")
    _se = models.build("se_resnet20", reduction=reduction.value)
    _more = _se.parameter_count - _plain.parameter_count
    mo.md(rf"""
    ResNet-20 (a net of lesson 7) has {_plain.parameter_count:,} parameters. SE blocks with
    r = {reduction.value} add {_more:,}, that is {_more / _plain.parameter_count:.1%}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: the backward pass

    Replace each `...` by one line, from top to bottom. After every line look at the answer below:
    it compares the result of each line with the exact derivative of the real forward. A mistake
    also makes the lines below that read it wrong, so fix the first one. A line marked ? cannot be
    judged yet: forward has no array of that name, or a sum may still follow.

    The shapes help: `z`, `s`, `ds`, `dv` are (N, C, 1, 1) and `h`, `dh`, `du` are
    (N, R, 1, 1); `w1` is (R, C), `w2` is (C, R). To multiply a matrix `a`, (K, C), with such an
    array `b`, name the axes: `np.einsum("kc,ncij->nkij", a, b)` sums over `c`, which is not in the
    result. Or remove the last two axes, multiply, and add them again:
    `(b[:, :, 0, 0] @ a.T)[:, :, None, None]`. The cache contains `x`, and in `gates` the parameters
    and the results of the two dense layers. `*_` collects the fields that you do not need.
    """)
    return


@app.function
def squeeze_excite_backward(dout, cache):
    x, *_ = cache
    w1, b1, w2, b2, z, h, s, *_ = cache.gates
    H, W = x.shape[2:]
    dx_scale = ...
    ds = ...
    dv = ...
    dh = ...
    dw2 = ...
    db2 = ...
    du = ...
    dz = ...
    dw1 = ...
    db1 = ...
    dx = ...
    return dx, dw1, db1, dw2, db2


@app.cell(hide_code=True)
def _():
    exercise = Exercise(
        [
            Case("squeeze_excite", dict(N=1, C=1, H=1, W=2, R=1)),
            Case("squeeze_excite", dict(N=1, C=3, H=2, W=2, R=2)),
            Case("squeeze_excite", dict(N=2, C=5, H=4, W=6, R=3)),
        ],
        hints={
            "dx_scale": (
                "out = x * s: hold s fixed. What is the derivative of out in x?",
                "dx_scale = dout * s",
            ),
            "ds": (
                "out = x * s: hold x fixed.",
                "All pixels of a channel use one gate: their gradients add up.",
                "Sum over H and W, and keep both axes with keepdims=True.",
                "ds = (dout * x).sum(axis=(2, 3), keepdims=True)",
            ),
            "dv": (
                "What is the derivative of the sigmoid, in terms of s?",
                "It is s (1 - s).",
                "dv = ds * s * (1 - s)",
            ),
            "dh": (
                "v = w2 h: which transposed product has the shape of h?",
                "For every n: w2.T (R, C) times dv (C,). np.einsum computes it in one line.",
                'dh = np.einsum("cr,ncij->nrij", w2, dv)',
            ),
            "dw2": (
                "v = w2 h: the gradient of the matrix is an outer product, dv times h.",
                "Sum over the images: all of them use one w2.",
                'dw2 = np.einsum("ncij,nrij->cr", dv, h)',
            ),
            "db2": (
                "All images use the same bias.",
                "Sum dv over all axes but the channels.",
                "db2 = dv.sum(axis=(0, 2, 3))",
            ),
            "du": (
                "h = max(u, 0): where u <= 0, h does not change.",
                "h is 0 exactly where u <= 0.",
                "du = np.where(h <= 0, 0, dh)",
            ),
            "dz": (
                "The same as dh, in the first layer.",
                'dz = np.einsum("rc,nrij->ncij", w1, du)',
            ),
            "dw1": (
                "The same as dw2, in the first layer: du and z.",
                'dw1 = np.einsum("nrij,ncij->rc", du, z)',
            ),
            "db1": (
                "The same as db2, in the first layer.",
                "db1 = du.sum(axis=(0, 2, 3))",
            ),
            "dx": (
                "Two routes, so two terms.",
                "Each pixel is one H*W-th of its channel's mean: dz / (H * W).",
                "dx = dx_scale + dz / (H * W)",
            ),
        },
        seed=153,  # a different hidden unit is off in each image
    )
    return (exercise,)


@app.cell(hide_code=True)
def _(exercise):
    judged(exercise, squeeze_excite_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    ## Task: a gate from the brightest pixel

    Here is another gate. Each channel has its own one, which depends on the largest pixel of the
    channel: $z = \max x$, $v = a z + b$, $s = \text{sigmoid}(v)$, $\text{out} = x \cdot s$, with
    two numbers $a$ and $b$ for each channel:
    """),
            mo.md(python_of(max_gate_forward)),
            mo.md(r"""
    Write the whole backward, without a skeleton; it returns `dx`, `da`, `db`. `x` still has two
    routes. Which pixels get a gradient by the second one?
    """),
        ]
    )
    return


@app.function(hide_code=True)
def max_gate_forward(x, a, b):
    N, C, H, W = x.shape
    pixels = x.reshape(N, C, H * W)
    argmax = pixels.real.argmax(axis=2)  # (N, C): where the largest pixel is
    n, c = np.ogrid[:N, :C]
    z = pixels[n, c, argmax]  # (N, C)
    v = a * z + b
    s = 1 / (1 + np.exp(-v))
    out = x * s[:, :, None, None]
    return out, (x, a, argmax, z, s)


@app.function
def max_gate_backward(dout, cache):
    """Return dx (N, C, H, W), da (C,) and db (C,)."""
    ...


@app.cell(hide_code=True)
def _():
    _rng = np.random.default_rng(3)
    task = Task(
        by_gradients(
            max_gate_forward,
            [_rng.standard_normal(shape) for shape in ((2, 3, 4, 5), (3,), (3,))],
            names=["x", "a", "b"],
            branches=lambda cache: cache[2],
        ),
        hints=(
            "Begin as in the exercise: ds is a sum over the pixels, here (N, C), and "
            "dv = ds * s * (1 - s).",
            "v = a z + b, and all images use one a and one b: da and db are sums over N.",
            "dz = dv * a. The maximum selects: dz goes to the pixel at argmax, and to no other.",
            "First dx = dout * s[:, :, None, None]. Then add dz at [n, c, argmax] of "
            "dx.reshape(N, C, H * W), with n, c = np.ogrid[:N, :C]; reshape returns a view.",
        ),
        solution="""
            def max_gate_backward(dout, cache):
                x, a, argmax, z, s = cache
                N, C, H, W = x.shape
                ds = (dout * x).sum(axis=(2, 3))
                dv = ds * s * (1 - s)
                da = (dv * z).sum(axis=0)
                db = dv.sum(axis=0)
                dz = dv * a
                dx = dout * s[:, :, None, None]
                n, c = np.ogrid[:N, :C]
                dx.reshape(N, C, H * W)[n, c, argmax] += dz
                return dx, da, db
        """,
    )
    return (task,)


@app.cell(hide_code=True)
def _(task):
    judged(task, max_gate_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Every number

    The training code on the two channels of this lesson, with the loss that depends on one pixel
    only. In the last step you can switch off each route of `dx`.
    """)
    return


@app.cell
def _(b1, b2, dout, w1, w2, x):
    trace("squeeze_excite", [x, w1, b1, w2, b2], dout)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Summary

    - If a gate depends on the whole image, every pixel has two routes to the loss. `dx` is the sum
      over both.
    - A number that forward shares (one gate for $HW$ pixels, one matrix for all images) has a
      gradient that is a sum.
    - The training code is `minise/ops/reference/squeeze_excite.py`; it has
      other squeezes and gates, too.

    **One step further:** in a cell of your own, call `ops.squeeze_excite_forward` with
    `squeeze="max"`, and `ops.squeeze_excite_backward` with its cache. Which pixels get a gradient
    by the second route then? Next: [residual blocks](?file=07_residual_blocks.py).

    Source: Hu et al., *Squeeze-and-Excitation Networks*, arXiv:1709.01507. The names $z$, $s$,
    $W_1$, $W_2$ are theirs; biases as in the authors' code.
    """)
    return


if __name__ == "__main__":
    app.run()
