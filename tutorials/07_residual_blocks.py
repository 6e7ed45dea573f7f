import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Residual blocks")

with app.setup:
    import marimo as mo
    import numpy as np

    from minise import models
    from minise.contract.cases import Case
    from minise.grading.exercise import Exercise
    from minise.lessons import Plot, python_of, table
    from minise.nn import SE, Build, Chain, Layer, ReLU, Residual, Tail, basic_block, under
    from minise.ops import reference as ops
    from minise.walk import trace


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 7. Residual blocks, and the five sites of SE

    A residual block adds its input to its output. One plus sign, and nets of a hundred layers
    train. In this lesson you see what the sign does to the gradient, put a squeeze-and-excitation
    block at each of the five places of the paper, and write the backward of a block's end.

    You need: [batch normalisation](05_batch_norm.py) and [squeeze and
    excitation](06_squeeze_and_excitation.py).
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The plus sign

    $\text{out} = \text{branch}(x) + x$. Both summands get `dout` as it is, so

    $$ dx = \text{branch}^T(\text{dout}) + \text{dout} $$

    where $\text{branch}^T$ is the branch's backward. The second term is the point. However small
    the branch makes the first one, the second is the whole of `dout`.

    Let the branch be a matrix product that turns its input at random and halves its length. Stack
    many of them, once without and once with the sum. How much of the gradient arrives at the first
    layer?
    """)
    return


@app.cell
def _():
    depth = mo.ui.slider(1, 40, value=20, label="layers", show_value=True)
    depth
    return (depth,)


@app.cell
def _(depth):
    rng = np.random.default_rng(0)
    plain = residual = np.ones((1, 8)) / np.sqrt(8)  # of length 1
    lengths = [(1.0, 1.0)]
    for _layer in range(depth.value):
        turn, _ = np.linalg.qr(rng.standard_normal((8, 8)))
        _, cache = ops.linear_forward(plain, 0.5 * turn)  # backward needs the weight only
        plain, _, _ = ops.linear_backward(plain, cache)
        branch, _, _ = ops.linear_backward(residual, cache)
        residual = branch + residual
        lengths.append((np.linalg.norm(plain), np.linalg.norm(residual)))
    return (lengths,)


@app.cell(hide_code=True)
def _(depth, lengths):
    _plot = Plot(2.1)
    _plot.axes.semilogy(lengths, label=["without the sum", "with it"])
    _plot.axes.set_xlabel("layers gone back")
    _plot.axes.set_ylabel("length of the gradient")
    _plot.axes.locator_params(axis="x", integer=True)
    _plot.axes.legend()
    _text = f"""
    Through {depth.value} layers, of a gradient of length 1 there arrive {lengths[-1][0]:.1e}
    without the sum and {lengths[-1][1]:.1f} with it. (At random, the two terms help each other in
    some layers and hinder each other in others.)
    """
    mo.vstack([_plot, mo.md(_text)])
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## A block, line by line

    A *layer* is an op with its parameters: `out, cache = layer.forward(x, training)`, and
    `dx, grads = layer.backward(dout, cache)`, where `grads` is a dict from the name of each
    parameter to its gradient. A layer keeps no cache, its caller does. So one layer can be called
    twice, as the ReLU is here.

    This is the basic block of a ResNet, with an SE block at the end of its branch. Backward is the
    same lines from the last to the first. Where $x$ went two ways, the two gradients are added.
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
    _as_page = mo.app_meta().mode == "run"  # which does not show the code of cells
    mo.md(python_of(Block.__init__, Block.forward, Block.backward)) if _as_page else None
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The same, declared

    All residual blocks have this form: a branch, a shortcut, and a tail where both meet. So the
    package writes forward and backward once, for any branch, shortcut and tail:
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(python_of(Residual.forward, Residual.backward))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    `plus` is a gradient that reaches the same $x$ by another way: what comes back on the shortcut
    is handed to the branch, whose first layer, `conv1`, adds both. `needs_dx` is False where nobody
    asks for the gradient of the images, which saves a convolution.

    A block is then a declaration. This one has the very layers of a block from above; are its
    gradients the same?
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
        """Return dx and the parameters' gradients by name."""
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
    _rows = [(name, f"{difference:g}") for name, difference in differences.items()]
    mo.md(table(["gradient of", "largest difference"], _rows))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Five sites

    Behind the sum the ReLU still stops the gradient where `out` is zero; nets with pre-activation,
    such as our `preact_resnet110`, have nothing there. The paper of squeeze and excitation tries
    five sites for the SE block:

    | site | where |
    |:---|:---|
    | standard | at the end of the branch, before the sum |
    | pre | on the branch, before its first convolution |
    | post | behind the sum and its ReLU |
    | identity | on the shortcut |
    | 3x3 | behind the first 3 x 3 convolution, its normalisation and ReLU |

    (The last one is tried there in bottlenecks, which have one such convolution.) Our nets declare
    all of them in one function, where `se_at` puts the SE block at its site and nothing elsewhere:
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(python_of(basic_block))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    (`norm_relu` is a normalisation and a ReLU as one op, and `_unit` ends the block in one op too.
    That is faster and changes no number here.) Choose a site. The block is one that trains, and
    its `dx` is compared with a derivative of its forward.
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
        """The loss <dout, out>, where x is moved by h along u."""
        out, _ = block.forward(x + h * u, training=True)
        return (dout * out).sum()

    slope = (along(1e-5) - along(-1e-5)) / 2e-5
    return dx, slope


@app.cell(hide_code=True)
def _(dx, site, slope, u):
    mo.md(f"""
    SE at the site *{site.value}*: along a random direction `dx` says {np.vdot(dx, u):.6f}, and
    forward itself {slope:.6f}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What a site costs

    At the pre site the gate sees the channels before the block, at the others those after it. They
    differ only where the net grows wider.
    """)
    return


@app.cell(hide_code=True)
def _():
    _plain = models.build("resnet20").parameter_count
    _counts = {
        one: models.build("se_resnet20", reduction=4, site=one).parameter_count - _plain
        for one in ("standard", "pre", "post", "identity", "3x3")
    }
    _rows = [(one, f"{count:,}") for one, count in _counts.items()]
    _apart = max(_counts.values()) - min(_counts.values())
    mo.vstack(
        [
            mo.md(table(["site", f"parameters added to ResNet-20 ({_plain:,})"], _rows)),
            mo.md(
                f"Between the most and the fewest are {_apart:,} parameters, {_apart / _plain:.1%} "
                "of the net."
            ),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: the end of a block

    $\text{out} = \max(\text{BN}(x) + \text{shortcut}, 0)$ is one op in our nets,
    `batch_norm2d_add_relu`. Its cache holds `out`, and in `norm` the cache of the normalisation.
    You may call the ops: here `batch_norm2d_backward` does the normalisation, so what is left is
    the ReLU and the plus sign.
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
                "The ReLU lets through where its output is above 0, and cache.out is its output.",
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
    answer = exercise.check(batch_norm2d_add_relu_backward)
    if mo.app_meta().mode == "script":
        print(answer)
    answer
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Every number

    The op that trains, on one channel of four pixels. Its backward calls the ops of the ReLU, of
    the sum and of batch normalisation, and the page goes through their lines. A whole residual
    block with SE, taken apart in the same way, is `minise walk block --html block.html`.
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
    ## What to take with you

    - A plus hands its gradient to both sides. However weak the branch is, all of it gets past on
      the shortcut.
    - Where $x$ went two ways, add what comes back.
    - The blocks that train are declared in [blocks.py](../minise/nn/blocks.py); `Residual` is in
      [residual.py](../minise/nn/residual.py), `Chain` in [compose.py](../minise/nn/compose.py),
      the fused end in [fused.py](../minise/ops/reference/fused.py).

    Next: [loss and training](08_training.py).

    Sources: He et al., *Deep Residual Learning for Image Recognition*, arXiv:1512.03385; the same,
    *Identity Mappings in Deep Residual Networks*, arXiv:1603.05027, for the gradient along the
    shortcuts and pre-activation; Hu et al., *Squeeze-and-Excitation Networks*, arXiv:1709.01507,
    section 6, for the sites.
    """)
    return


if __name__ == "__main__":
    app.run()
