import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Loss and training")

with app.setup:
    import marimo as mo
    import numpy as np

    from minise import data, models, train
    from minise.contract.case import Case
    from minise.grading.exercise import Exercise
    from minise.lessons import Arrays, Plot, Question, Task, by_gradients, judged, python_of, show
    from minise.ops import reference as ops
    from minise.pictures import softmax_cross_entropy
    from minise.walk import trace


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 8. Loss and training

    We have all ops. To train we also need a loss, a number that measures how wrong the net is, and
    a loop. In this lesson you derive the shortest gradient of the course, train an SE-ResNet on
    generated images, and see what training on CIFAR-10 needs in addition.

    You need: [the linear layer](?file=02_linear.py); the net uses the ops of lessons 3 to 7.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## From logits to a loss

    The output of the net is $K$ numbers, the *logits*, one for each class. The softmax converts
    them to probabilities, and the loss is minus the logarithm of the probability of the correct
    class:

    $$ p_k = \frac{e^{\text{logit}_k}}{\sum_j e^{\text{logit}_j}}, \quad
    \text{loss} = -\log p_\text{label} $$

    Both belong in one op. A probability of $10^{-60}$ is 0 in float32, so its logarithm cannot be
    computed. But the logarithm of the softmax is a logit minus the logarithm of a sum; if we
    subtract the largest logit first, nothing can overflow.
    """)
    return


@app.cell(hide_code=True)
def _():
    _logits, _labels = np.array([[2.0, 1.0, -1.0]]), np.array([0])
    _, _cache = ops.softmax_cross_entropy_forward(_logits, _labels)
    _d = ops.softmax_cross_entropy_backward(np.asarray(1.0), _cache)[0][0]
    show(
        Question(
            """
    The logits of an image are 2, 1 and -1, and class 0 is correct. Which sign has the gradient of
    the loss with respect to each logit? What is the sum of the three gradients? (What happens to
    the loss if all logits grow by the same number?)
    """,
            f"""
    {_d[0]:.3f}, {_d[1]:.3f} and {_d[2]:.3f}: a larger logit of the correct class decreases the
    loss, larger logits of the others increase it. The sum is {abs(_d.sum()):.0f}: if all logits
    grow by the same number, no probability changes.
    """,
        )
    )
    return


@app.cell
def _():
    first = mo.ui.slider(-5, 5, step=0.5, value=2, label="logit of class 0", show_value=True)
    first
    return (first,)


@app.cell
def _(first):
    logits = np.array([[first.value, 1.0, -1.0]])
    labels = np.array([0])
    loss, cache = ops.softmax_cross_entropy_forward(logits, labels)
    dlogits, _ = ops.softmax_cross_entropy_backward(np.asarray(1.0), cache)
    Arrays(3, logits=logits, probabilities=np.exp(cache.logprob), dlogits=dlogits)
    return cache, dlogits, labels, logits, loss


@app.cell(hide_code=True)
def _(cache, dlogits, loss):
    _p = np.exp(cache.logprob)[0]
    mo.md(f"""
    Class 0 is the correct one. The loss is -log {_p[0]:.3f} = {float(loss):.3f}. And `dlogits` is
    the row of probabilities with 1 subtracted at the label: {_p[0]:.3f} - 1 =
    {dlogits[0, 0]:.3f}. The sum of the row is {abs(dlogits.sum()):.0f}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    ## Why the gradient is so short

    $\text{loss} = -\text{logit}_\text{label} + \log \sum_j e^{\text{logit}_j}$. The derivative
    of the first term is $-1$ at the label. The derivative of the second in $\text{logit}_k$ is
    $e^{\text{logit}_k} / \sum_j e^{\text{logit}_j} = p_k$. So

    $$ d\text{logits} = \frac{p - \text{onehot}}{N} $$

    where $N$ is the number of images, because the loss is the mean over images. Every row sums to
    zero: the softmax does not change if a constant is added to all logits.
    """),
            softmax_cross_entropy(),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    def _at(value):
        _, cache = ops.softmax_cross_entropy_forward(np.array([[value, 1.0, -1.0]]), np.array([0]))
        p = np.exp(cache.logprob[0, 0])
        return p, ops.softmax_cross_entropy_backward(np.asarray(1.0), cache)[0][0, 0]

    _answers = {value: _at(value) for value in (-5.0, 8.0)}
    show(
        Question(
            r"""
    With $\text{loss} = (1 - p_\text{label})^2$ in place of the logarithm, a net that is sure and
    wrong ($p_\text{label} \approx 0$) gets almost no gradient, because the softmax is flat there.
    How large is the gradient of our loss at the label for a net that is sure and wrong? And for one
    that is sure and right?
    """,
            rf"""
    The gradient is $p_\text{{label}} - 1$. Sure and wrong: $p_\text{{label}} =
    {_answers[-5.0][0]:.4f}$, gradient {_answers[-5.0][1]:.4f}, almost as large as possible. Sure
    and right: $p_\text{{label}} = {_answers[8.0][0]:.4f}$, gradient {_answers[8.0][1]:.4f}. The
    logarithm undoes the exponential, so the gradient is small only where the net is right.
    """,
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Training

    The built-in data set `shapes10` generates its images: ten kinds of shapes on a noisy
    background. This takes a moment, and nothing is downloaded.
    """)
    return


@app.cell
def _():
    images = data.shapes10("train", n=40)
    _plot = Plot(2.2, rows=2, columns=5)
    for _k, _axes in enumerate(_plot.axes.ravel()):
        _axes.imshow(images.images[_k].transpose(1, 2, 0))
        _axes.set_title(f"class {images.labels[_k]}", fontsize=8)
        _axes.axis("off")
    _plot
    return (images,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    To be fast, we use every second pixel, and few images. A training step is forward, loss, the
    backward calls in reverse order, and an update of the parameters. `net.backward` returns the
    gradient of the images, which we do not need here, and the gradients of the parameters by name.
    Momentum adds a share of the previous steps: `velocity = 0.9 * velocity + gradient`, then
    `weight -= lr * velocity`, where `lr` is the learning rate.
    """)
    return


@app.cell
def _(images):
    def few_steps(shown):
        """Return a net and its losses in eight steps; every step uses all images."""
        net = models.build("se_resnet8", reduction=4)
        optimiser = train.SGD(net, momentum=0.9)
        pixels = (shown.images[:, :, ::2, ::2] / 255 - 0.5).astype(np.float32)  # every second pixel
        losses = []
        for _ in range(8):
            scores, net_cache = net.forward(pixels, training=True)
            mean_loss, loss_cache = ops.softmax_cross_entropy_forward(scores, shown.labels)
            dloss = np.asarray(1.0, np.float32)
            dscores, _ = ops.softmax_cross_entropy_backward(dloss, loss_cache)
            _, grads = net.backward(dscores, net_cache)
            optimiser.step(grads, lr=0.1)
            losses.append(float(mean_loss))
        return net, losses

    net, losses = few_steps(images)
    return few_steps, losses, net


@app.cell(hide_code=True)
def _(few_steps):
    _as_page = mo.app_meta().mode == "run"  # this mode does not show the code of cells
    mo.md(python_of(few_steps)) if _as_page else None
    return


@app.cell(hide_code=True)
def _(losses):
    show(
        Question(
            """
    What is the loss of a net that knows nothing, with ten classes? Is the loss of
    our net before its first step lower, equal, or higher?
    """,
            f"""
    With ten equal probabilities the loss is log 10 = {np.log(10):.2f}. Our net starts
    {"higher" if losses[0] > np.log(10) else "lower"}, at {losses[0]:.2f}: its initial values are
    random, so its ten probabilities are not equal, and being sure for no reason costs. A first loss
    far from log 10 is a sign of wrong initial values, or of wrong labels.
    """,
        )
    )
    return


@app.cell(hide_code=True)
def _(losses, net):
    _plot = Plot(2)
    _axes = _plot.axes
    _axes.plot(range(1, len(losses) + 1), losses, "o-")
    _axes.set_xlabel("step")
    _axes.set_ylabel("loss")
    mo.vstack(
        [
            _plot,
            mo.md(
                "With ten equal probabilities the loss is log 10 = "
                f"{np.log(10):.2f}. Here it starts at {losses[0]:.2f} and is {losses[-1]:.2f} "
                f"after {len(losses)} steps. The net has {net.parameter_count:,} parameters, "
                "and every line of its backward is written by hand."
            ),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What a full training run adds

    `minise quickstart` trains this net to the end. On a real data set a run also needs: a new order
    of the images in each epoch, random crops and flips; a learning rate that decreases; weight
    decay; validation images to choose the best epoch, and test images that are used once. All of
    this is in `minise/train/loop.py`, around the step of
    `minise/train/step.py`; `train.run` does it for your own net, loss and
    batches. To continue:

    - unpack CIFAR-10 in its binary form, and set `MINISE_DATA` to the folder
    - `minise train --recipe quick` trains SE-ResNet-20; the README gives accuracy and time
    - `minise eval runs/NAME` evaluates the trained net
    """)
    return


@app.cell
def _(few_steps):
    try:
        cifar = data.load("cifar10", "train", n=40)
        _, cifar_losses = few_steps(cifar)
        _text = (
            f"CIFAR-10 is available. On its first {len(cifar)} images the loss goes from "
            f"{cifar_losses[0]:.2f} to {cifar_losses[-1]:.2f} in {len(cifar_losses)} steps."
        )
    except (OSError, ValueError) as error:
        _text = f"CIFAR-10 is not available, so this cell shows no result. ({error})"
    mo.md(_text)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise: the gradient of the loss

    `logprob` is (N, K), the logarithm of the softmax; `at_label` is True at the correct class of
    each row. `dlogprob` is the gradient of the loss with respect to `logprob`. For `dlogits`,
    remember that logprob = logits - log sum exp(logits), where the sum depends on all logits of the
    row.
    """)
    return


@app.function
def softmax_cross_entropy_backward(dout, cache):
    logprob, labels, *_ = cache
    N, K = logprob.shape
    at_label = np.arange(K) == labels[:, None]
    dlogprob = ...
    dlogits = ...
    return dlogits, None


@app.cell(hide_code=True)
def _():
    exercise = Exercise(
        [
            Case("softmax_cross_entropy", dict(N=1, K=2)),
            Case("softmax_cross_entropy", dict(N=3, K=4)),
        ],
        hints={
            "dlogprob": (
                "loss = -mean over N of logprob at the label.",
                "-dout / N at the label, 0 elsewhere: np.where(at_label, …, 0).",
                "dlogprob = np.where(at_label, -dout / N, 0)",
            ),
            "dlogits": (
                "Two routes: through the logit itself, and through the sum of its row.",
                "The second term is minus the softmax times the sum of the row of dlogprob.",
                "dlogits = dlogprob - np.exp(logprob) * dlogprob.sum(axis=1, keepdims=True)",
            ),
        },
        given=("at_label",),
    )
    return (exercise,)


@app.cell(hide_code=True)
def _(exercise):
    judged(exercise, softmax_cross_entropy_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    ## Task: label smoothing

    A net whose probability of the correct class is 0.999 still gets a gradient that asks for more.
    *Label smoothing* asks for less: of the probability that the net should give, a share
    $\varepsilon$ is spread equally over all $K$ classes, and the rest stays at the label:
    """),
            mo.md(python_of(smoothed_loss_forward)),
            mo.md(r"""
    Write the whole backward, without a skeleton. `dout` is one number, the gradient of the loss.
    At which probabilities is the gradient zero?
    """),
        ]
    )
    return


@app.function(hide_code=True)
def smoothed_loss_forward(logits, labels, epsilon=0.1):
    N, K = logits.shape
    wanted = np.full((N, K), epsilon / K)
    wanted[np.arange(N), labels] += 1 - epsilon  # each row sums to 1
    shifted = logits - logits.real.max(axis=1, keepdims=True)
    logprob = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -(wanted * logprob).sum() / N
    return loss, (logprob, wanted)


@app.function
def smoothed_loss_backward(dout, cache):
    """Return dlogits (N, K)."""
    ...


@app.cell(hide_code=True)
def _():
    task = Task(
        by_gradients(
            lambda logits: smoothed_loss_forward(logits, np.array([2, 0, 1])),
            [np.random.default_rng(5).standard_normal((3, 4))],
            names=["logits"],
        ),
        hints=(
            "As in the exercise, with dlogprob = -dout * wanted / N.",
            "Two routes: each logit itself, and the sum of exponentials that its row shares.",
            "The second term is -p times the sum of dlogprob over the row, and the row of wanted "
            "sums to 1. What is left is short.",
        ),
        solution="""
            def smoothed_loss_backward(dout, cache):
                logprob, wanted = cache
                return dout * (np.exp(logprob) - wanted) / len(wanted)
        """,
    )
    return (task,)


@app.cell(hide_code=True)
def _(task):
    judged(task, smoothed_loss_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Every number

    The training code on the three logits of this lesson. All logits of a row share the sum of the
    row; therefore `dlogits` is a difference.
    """)
    return


@app.cell
def _(labels, logits):
    trace("softmax_cross_entropy", [logits, labels])
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Summary

    - Softmax and cross-entropy are one op. Its gradient is the probabilities minus 1 at the
      label, over $N$.
    - A training step is forward, loss, the backward calls in reverse order, and an update.
      Everything else improves the result.
    - The op is `minise/ops/reference/loss.py`, the optimiser
      `minise/train/sgd.py`.

    Next: [checking gradients](?file=09_checking_gradients.py).

    Sources: Goodfellow et al., *Deep Learning*, section 6.2; He et al., arXiv:1512.03385, for the
    recipe on CIFAR-10.
    """)
    return


if __name__ == "__main__":
    app.run()
