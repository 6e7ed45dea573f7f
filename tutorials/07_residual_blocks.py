import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Residual blocks")

with app.setup:
    import marimo as mo
    import numpy as np

    from minise import models
    from minise.contract.case import Case
    from minise.grading.exercise import Exercise
    from minise.lessons import Plot, Question, Task, by_gradients, judged, python_of, show, table
    from minise.nn import SE, Build, Chain, Layer, ReLU, Residual, Tail, basic_block, under
    from minise.ops import reference as ops
    from minise.pictures import net_graph, residual_block
    from minise.walk import trace


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 7. Residual blocks, and the five sites of SE

    A residual block adds its input to its output. This plus sign makes it possible to train nets of
    a hundred layers. In this lesson you see its effect on the gradient, put a
    squeeze-and-excitation block at each of the five sites of the paper, and write the backward of
    the end of a block.

    You need: [batch normalisation](?file=05_batch_norm.py) and [squeeze and
    excitation](?file=06_squeeze_and_excitation.py).
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The plus sign

    $\text{out} = \text{branch}(x) + x$. The gradient of both summands is `dout`, so

    $$ dx = \text{branch}^T(\text{dout}) + \text{dout} $$

    where $\text{branch}^T$ is the backward of the branch. The second term matters: even if the
    first term is very small, the second is `dout` without any loss.

    Let the branch be a matrix product that rotates its input at random and halves its norm. Stack
    many of them, once without and once with the sum. How large is the gradient at the first layer?
    One stack proves little: the answer depends on the rotations. So we draw many stacks.
    """)
    return


@app.cell
def _():
    STACKS, LAYERS, SIZE = 400, 40, 8

    def rotations(rng):
        """Return uniformly distributed rotations and reflections by stack and layer."""
        q, r = np.linalg.qr(rng.standard_normal((STACKS, LAYERS, SIZE, SIZE)))
        return q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]

    branch_norm = mo.ui.slider(
        steps=[0.0, 0.1, 0.25, 0.5, 1.0], value=0.5, label="norm of the branch", show_value=True
    )
    depth = mo.ui.slider(1, LAYERS, value=20, label="layers", show_value=True)
    orthogonal = rotations(np.random.default_rng(0))
    mo.vstack([branch_norm, depth])
    return SIZE, branch_norm, depth, orthogonal, rotations


@app.cell
def _(SIZE, branch_norm, orthogonal):
    def norms_of(weights, shortcut):
        """Return the norm of the gradient after each layer, (layers + 1, stacks)."""
        stacks, layers = weights.shape[:2]
        gradient = np.ones((stacks, 1, SIZE)) / np.sqrt(SIZE)  # norm 1
        norms = [np.ones(stacks)]
        for layer in range(layers):
            dbranch = gradient @ weights[:, layer]  # backward of a linear layer: dout @ weight
            gradient = dbranch + gradient if shortcut else dbranch
            norms.append(np.linalg.norm(gradient, axis=(1, 2)))
        return np.array(norms)

    plain, residual = (
        norms_of(branch_norm.value * orthogonal, shortcut) for shortcut in (False, True)
    )
    return norms_of, plain, residual


@app.cell(hide_code=True)
def _(rotations, norms_of):
    _as_page = mo.app_meta().mode == "run"  # this mode does not show the code of cells
    mo.md(python_of(rotations, norms_of)) if _as_page else None
    return


@app.cell(hide_code=True)
def _(norms_of, orthogonal):
    _without, _with = (norms_of(0.5 * orthogonal, shortcut)[20] for shortcut in (False, True))
    show(
        Question(
            r"""
    A gradient of norm 1 goes back through 20 layers whose branch halves every norm. What is its
    norm without the sum? And with the sum: is it almost 0, about 1, or larger than 1?
    """,
            rf"""
    Without the sum it is exactly $0.5^{{20}}$ = {_without[0]:.1e}: the first layer learns
    next to nothing. With the sum it is larger than 1 in {np.mean(_with > 1):.1%} of
    {len(_with)} random stacks; the median is {np.median(_with):.1f}. The shortcut alone would keep
    it at 1, and the branches add to it.
    """,
        )
    )
    return


@app.cell(hide_code=True)
def _(branch_norm, depth, plain, residual):
    _plot = Plot(2.4)
    _axes = _plot.axes
    _layers = np.arange(depth.value + 1)
    for _norms, _label in ((plain, "without the sum"), (residual, "with it")):
        _low, _middle, _high = np.percentile(_norms[: depth.value + 1], [5, 50, 95], axis=1)
        (_line,) = _axes.plot(_layers, _middle, label=_label)
        _axes.fill_between(_layers, _low, _high, color=_line.get_color(), alpha=0.2, lw=0)
    _axes.set_yscale("log" if branch_norm.value else "linear")
    _axes.set_xlabel("layers, counted from the loss")
    _axes.set_ylabel("norm of the gradient")
    _axes.locator_params(axis="x", integer=True)
    _axes.legend()
    _low, _middle, _high = np.percentile(residual[depth.value], [5, 50, 95])
    _text = f"""
    After {depth.value} layers, a gradient of norm 1 has the norm {plain[depth.value][0]:.1e}
    without the sum. With it, the median of {residual.shape[1]} stacks is {_middle:.1f}, and 90 %
    of them are between {_low:.1f} and {_high:.1f} (the band).
    {np.mean(residual[depth.value] > 1):.1%} of them have a larger gradient at the first layer than
    at the last.
    """
    mo.vstack([_plot, mo.md(_text)])
    return


@app.cell(hide_code=True)
def _(branch_norm):
    _square = 1 + branch_norm.value**2
    mo.md(rf"""
    Why does the gradient grow? Let $g$ be the gradient and $a$ the norm of the branch. The branch
    turns $g$ into $a Q g$, with a random rotation $Q$, so

    $$ |g + a Q g|^2 = |g|^2 + 2 a \langle g, Q g \rangle + a^2 |g|^2 $$

    The middle term is as often positive as negative, and its mean is 0. So the mean of the square
    grows by $1 + a^2 = {_square:g}$ in each layer. The sum cures vanishing gradients, and nothing
    prevents a slow growth: a net of $L$ blocks multiplies the square by about $(1 + a^2)^L$. For
    the same reason the outputs grow in forward. Two remedies are in use. **Normalise**: the batch
    normalisations of a branch set the size of its numbers anew, and their backward divides the
    gradient by the standard deviation of their input: the larger the input has grown, the smaller
    is $a$. **Start small**: with $a^2 = 1/L$ the factor is below $e$ for any depth, and with
    $a = 0$ it is 1. Many recipes therefore start the last $\gamma$ of every branch at 0 (Goyal et
    al., below). Move the slider *norm of the branch*, and see the band flatten.
    """)
    return


@app.cell(hide_code=True)
def _(SIZE, norms_of, orthogonal):
    _raw, _ = np.linalg.qr(np.random.default_rng(0).standard_normal(orthogonal.shape))
    _traces = [round(np.trace(q, axis1=-2, axis2=-1).mean(), 1) + 0.0 for q in (_raw, orthogonal)]
    _medians = [np.median(norms_of(0.5 * q, shortcut=True)[20]) for q in (_raw, orthogonal)]
    mo.md(f"""
    (Random numbers have traps of their own. `np.linalg.qr` of normal numbers is a rotation, but not
    a uniformly distributed one: it prefers rotations that turn back. The mean trace of its
    {SIZE} x {SIZE} matrices is {_traces[0]}, and should be 0. `q * np.sign(diagonal of r)` corrects
    the signs, and the mean trace is {_traces[1]}. Without that correction the median after 20
    layers, with a branch of norm 0.5, would be {_medians[0]:.1f} instead of {_medians[1]:.1f}.)
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## A block, line by line

    A *layer* is an op with its parameters: `out, cache = layer.forward(x, training)`, and
    `dx, grads = layer.backward(dout, cache)`, where `grads` is a dict from the name of each
    parameter to its gradient. The caller, not the layer, stores the cache. So one layer can be
    called twice, like the ReLU here.

    This is the basic block of a ResNet, with an SE block at the end of its branch. Backward has one
    line for each line of forward, in reverse order. $x$ has two uses, so its two gradients are
    added.
    """)
    return


@app.class_definition
class Block(Layer):
    def __init__(self, channels, build):
        super().__init__(build.ops)
        self.conv1 = build.conv(channels, channels, 3)
        self.bn1 = build.norm(channels)
        self.relu = ReLU(ops=build.ops)
        self.conv2 = build.conv(channels, channels, 3)
        self.bn2 = build.norm(channels)
        self.se = build.se_at("standard", channels)

    def forward(self, x, training):
        y1, c1 = self.conv1.forward(x, training)
        y2, c2 = self.bn1.forward(y1, training)
        y3, c3 = self.relu.forward(y2, training)
        y4, c4 = self.conv2.forward(y3, training)
        y5, c5 = self.bn2.forward(y4, training)
        y6, c6 = self.se.forward(y5, training)
        y7, c7 = self.ops.add_forward(y6, x)  # the shortcut
        out, c8 = self.relu.forward(y7, training)
        return out, (c1, c2, c3, c4, c5, c6, c7, c8)

    def backward(self, dout, cache):
        c1, c2, c3, c4, c5, c6, c7, c8 = cache
        dy7, _ = self.relu.backward(dout, c8)
        dy6, dshortcut = self.ops.add_backward(dy7, c7)
        dy5, dse = self.se.backward(dy6, c6)
        dy4, dbn2 = self.bn2.backward(dy5, c5)
        dy3, dconv2 = self.conv2.backward(dy4, c4)
        dy2, _ = self.relu.backward(dy3, c3)
        dy1, dbn1 = self.bn1.backward(dy2, c2)
        dbranch, dconv1 = self.conv1.backward(dy1, c1)
        dx = dbranch + dshortcut
        grads = {
            **under("conv1", dconv1),  # conv1.weight
            **under("bn1", dbn1),  # bn1.weight, bn1.bias
            **under("conv2", dconv2),
            **under("bn2", dbn2),
            **under("se", dse),
        }
        return dx, grads


@app.cell(hide_code=True)
def _():
    _as_page = mo.app_meta().mode == "run"  # this mode does not show the code of cells
    mo.md(python_of(Block.__init__, Block.forward, Block.backward)) if _as_page else None
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The same, declared

    All residual blocks have this form: a branch, a shortcut, and a tail that adds both. So the
    package has one forward and one backward for any branch, shortcut and tail:
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(python_of(Residual.forward, Residual.backward))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    `plus` is the gradient of the same $x$ along another route: here the gradient of the shortcut,
    which the first layer of the branch, `conv1`, adds to its own. `needs_dx` is False if the
    gradient of the images is not needed, which saves a convolution.

    A block is then a declaration. The block below consists of the same layer objects as the block
    above. Are its gradients the same?
    """)
    return


@app.cell
def _():
    draws = np.random.default_rng(1)
    x, dout, u = (draws.standard_normal((2, 4, 6, 6)) for _ in range(3))

    written = Block(4, Build(dtype=np.float64, rng=0, se=SE(reduction=2)))
    declared = Residual(
        Chain(
            ("conv1", written.conv1),
            ("bn1", written.bn1),
            ("relu", written.relu),
            ("conv2", written.conv2),
        ),
        tail=Tail(("bn2", written.bn2), ("se", written.se)),
    )

    def gradients(layer):
        """Return dx and the gradients of the parameters by name."""
        _, cache = layer.forward(x, training=True)
        dx, grads = layer.backward(dout, cache)
        return {"x": dx, **grads}

    theirs = gradients(declared)
    differences = {
        name: abs(ours - theirs[name]).max() for name, ours in gradients(written).items()
    }
    return differences, dout, u, x


@app.cell(hide_code=True)
def _(differences):
    show(
        Question(
            """
    The block above adds `dbranch + dshortcut` at its end; the declared block hands `dshortcut` to
    the backward of `conv1`, which adds it to its own result. Do the gradients differ not at all, by
    rounding (about 1e-16), or by more?
    """,
            f"""
    The largest difference is {max(differences.values()):g}. Both compute the same sums in the same
    order; only the two terms of the last sum may be swapped, and a + b = b + a holds in
    floating-point arithmetic, too. (It is (a + b) + c = a + (b + c) that does not.)
    """,
        )
    )
    return


@app.cell(hide_code=True)
def _(differences):
    _rows = [(name, f"{difference:g}") for name, difference in differences.items()]
    mo.md(table(["gradient of", "largest difference"], _rows))
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    ## Five sites

    After the sum, the ReLU still blocks the gradient where `out` is zero; nets with pre-activation,
    such as our `preact_resnet110`, have no op after the sum. The squeeze-and-excitation paper
    compares five sites for the SE block:

    | site | where |
    |:---|:---|
    | standard | at the end of the branch, before the sum |
    | pre | on the branch, before its first convolution |
    | post | after the sum and its ReLU |
    | identity | on the shortcut |
    | 3x3 | after the first 3 x 3 convolution, its normalisation and ReLU |
    """),
            residual_block(),
            mo.md(r"""
    (The paper uses the last site in bottleneck blocks, which have one 3 x 3 convolution.) Our nets
    declare all sites in one function, in which `se_at` returns the SE block at its site and nothing
    at the other sites:
    """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(python_of(basic_block))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    (`norm_relu` is a normalisation and a ReLU as one op, and `_unit` ends the block with one op,
    too. That is faster and changes no number here.) Choose a site. The block is the one that our
    nets use; its `dx` is compared with a finite difference of its forward.
    """)
    return


@app.cell
def _():
    site = mo.ui.dropdown(
        ["standard", "pre", "post", "identity", "3x3"], value="standard", label="site"
    )
    site
    return (site,)


@app.cell
def _(dout, site, u, x):
    block = basic_block(
        4, 4, 1, Build(dtype=np.float64, rng=0, se=SE(reduction=2, site=site.value))
    )
    _, cache_of_block = block.forward(x, training=True)
    dx, _ = block.backward(dout, cache_of_block)

    def along(h):
        """Return the loss <dout, out> at x + h u."""
        out, _ = block.forward(x + h * u, training=True)
        return (dout * out).sum()

    slope = (along(1e-5) - along(-1e-5)) / 2e-5
    return dx, slope


@app.cell(hide_code=True)
def _(dx, site, slope, u):
    mo.md(f"""
    SE at the site *{site.value}*: the derivative along a random direction is
    {np.vdot(dx, u):.6f} by `dx`, and {slope:.6f} by a finite difference of forward.
    """)
    return


@app.cell(hide_code=True)
def _():
    _plain = models.build("resnet20").parameter_count
    counts = {
        name: models.build("se_resnet20", reduction=4, site=name).parameter_count - _plain
        for name in ("standard", "pre", "post", "identity", "3x3")
    }
    _other = [name for name, count in counts.items() if count != counts["standard"]]
    show(
        Question(
            """
    The gate has two matrices of $C R$ weights, with $R = C / r$. At which of the five sites does
    the block have another number of parameters than at the others? Think of the blocks that widen
    the net, from 16 to 32 channels for instance.
    """,
            f"""
    At the site *{", ".join(_other)}*: {counts[_other[0]]:,} instead of {counts["standard"]:,}
    parameters. There the gate stands before the first convolution of the branch, and its $C$ is the
    number of channels that come in.
    """,
        )
    )
    return (counts,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What a site costs

    At the pre site the gate has as many channels as the input of the block, at all other sites as
    many as its output. The two numbers differ only in blocks that widen the net.
    """)
    return


@app.cell(hide_code=True)
def _(counts):
    _plain = models.build("resnet20").parameter_count
    _rows = [(name, f"{count:,}") for name, count in counts.items()]
    _range = max(counts.values()) - min(counts.values())
    mo.vstack(
        [
            mo.md(table(["site", f"parameters added to ResNet-20 ({_plain:,})"], _rows)),
            mo.md(
                f"The largest and the smallest number differ by {_range:,} parameters, "
                f"{_range / _plain:.1%} of the net."
            ),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    ## From blocks to a net

    A net is a chain of layers and blocks, so its backward is theirs, in reverse order: the gradient
    runs up where the values ran down. In this small net you find each op of lessons 2 to 6, and one
    block of this lesson:
    """),
            net_graph(),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: the end of a block

    $\text{out} = \max(\text{BN}(x) + \text{shortcut}, 0)$ is one op in our nets,
    `batch_norm2d_add_relu`. Its cache contains `out`, and in `norm` the cache of the normalisation.
    You may call the ops: here `batch_norm2d_backward` computes the normalisation, so you write the
    ReLU and the plus sign.
    """)
    return


@app.function
def batch_norm2d_add_relu_backward(dout, cache):
    dtotal = ...
    dshortcut = ...
    dx, dgamma, dbeta = ops.batch_norm2d_backward(dtotal, cache.norm)
    return dx, dgamma, dbeta, dshortcut


@app.cell(hide_code=True)
def _():
    exercise = Exercise(
        [
            Case("batch_norm2d_add_relu", dict(N=1, C=1, H=1, W=4), dict(training=True)),
            Case("batch_norm2d_add_relu", dict(N=2, C=3, H=4, W=5), dict(training=True)),
        ],
        hints={
            "dtotal": (
                "The ReLU passes the gradient where its output, cache.out, is positive.",
                "dtotal = np.where(cache.out <= 0, 0, dout)",
            ),
            "dshortcut": (
                "Both summands of a plus get the same gradient.",
                "dshortcut = dtotal",
            ),
        },
    )
    return (exercise,)


@app.cell(hide_code=True)
def _(exercise):
    judged(exercise, batch_norm2d_add_relu_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    ## Task: a unit with pre-activation

    In a unit with pre-activation, normalisation and ReLU stand before the convolution, and nothing
    stands after the sum:
    """),
            mo.md(python_of(preact_unit_forward)),
            mo.md(r"""
    Write the whole backward, without a skeleton; it returns `dx`, `dgamma`, `dbeta`, `dweight`. You
    may call the backward functions of the ops. Each returns a tuple with one gradient for each
    array of its forward: `ops.relu_backward` one, the other two three. (The third of
    `ops.conv2d_backward` is None, because there is no bias.)
    """),
        ]
    )
    return


@app.function(hide_code=True)
def preact_unit_forward(x, gamma, beta, weight):
    zeros, ones = np.zeros(len(gamma)), np.ones(len(gamma))
    statistics = dict(running_mean=zeros, running_var=ones, training=True)
    y1, c1 = ops.batch_norm2d_forward(x, gamma, beta, **statistics)
    y2, c2 = ops.relu_forward(y1)
    y3, c3 = ops.conv2d_forward(y2, weight, padding=(1, 1))
    out = x + y3
    return out, (c1, c2, c3)


@app.function
def preact_unit_backward(dout, cache):
    """Return dx, dgamma, dbeta and dweight."""
    ...


@app.cell(hide_code=True)
def _():
    _rng = np.random.default_rng(10)  # the ReLU is open and closed in each channel
    task = Task(
        by_gradients(
            preact_unit_forward,
            [_rng.standard_normal(shape) for shape in ((2, 3, 4, 5), (3,), (3,), (3, 3, 3, 3))],
            names=["x", "gamma", "beta", "weight"],
            branches=lambda cache: ops.relu_branches(cache[1]),
        ),
        hints=(
            "One line for each line of forward, last line first. Which gradient does y3 get?",
            "out = x + y3: both summands get dout. Keep it: it is the shortcut's part of dx.",
            "Then conv2d_backward with c3, relu_backward with c2, batch_norm2d_backward with c1.",
            "x has two uses: dx is dout plus what batch_norm2d_backward returns first.",
        ),
        solution="""
            def preact_unit_backward(dout, cache):
                c1, c2, c3 = cache
                dy2, dweight, _ = ops.conv2d_backward(dout, c3)
                (dy1,) = ops.relu_backward(dy2, c2)
                dbranch, dgamma, dbeta = ops.batch_norm2d_backward(dy1, c1)
                dx = dbranch + dout
                return dx, dgamma, dbeta, dweight
        """,
    )
    return (task,)


@app.cell(hide_code=True)
def _(task):
    judged(task, preact_unit_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Every number

    The training code on one channel of four pixels. Its backward calls the ops of the ReLU, of the
    sum and of batch normalisation, and the page shows their lines. `minise walk block --html
    block.html` writes such a page for a residual block with SE.
    """)
    return


@app.cell
def _():
    branch_end = np.array([1.0, -1.0, 2.0, 0.0]).reshape(1, 1, 2, 2)
    shortcut = np.array([0.5, 0.5, -2.0, 1.0]).reshape(1, 1, 2, 2)
    trace(
        "batch_norm2d_add_relu",
        [branch_end, np.array([1.0]), np.array([0.0]), shortcut],
        np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 2, 2),
        running_mean=np.zeros(1),
        running_var=np.ones(1),
        training=True,
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Summary

    - A sum passes its gradient to both summands. Even if the gradient of the branch is small, the
      shortcut passes `dout` without loss.
    - Without the sum the gradient vanishes with depth; with it, it grows slowly. So residual nets
      normalise, and start with small branches.
    - $x$ has two uses, so its gradient is the sum of two.
    - The blocks of our nets are declared in `minise/nn/blocks.py`; `Residual` is in
      `minise/nn/residual.py`, `Chain` in `minise/nn/compose.py`,
      the fused end in `minise/ops/reference/fused.py`.

    Next: [loss and training](?file=08_training.py).

    Sources: He et al., *Deep Residual Learning for Image Recognition*, arXiv:1512.03385; the same,
    *Identity Mappings in Deep Residual Networks*, arXiv:1603.05027, for the gradient along the
    shortcuts and pre-activation; Hu et al., *Squeeze-and-Excitation Networks*, arXiv:1709.01507,
    section 6, for the sites; Goyal et al., *Accurate, Large Minibatch SGD*, arXiv:1706.02677,
    section 5.1, for the initial value 0 of the last $\gamma$.
    """)
    return


if __name__ == "__main__":
    app.run()
