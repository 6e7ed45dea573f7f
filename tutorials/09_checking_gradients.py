import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Checking gradients")

with app.setup:
    import textwrap

    import marimo as mo
    import numpy as np

    from minise.contract.case import Case, draw, functions
    from minise.gradcheck import check
    from minise.grading.exercise import Exercise
    from minise.grading.worksheet import hints_html, source_of, worksheet
    from minise.lessons import (
        BOUND,
        Pair,
        Planted,
        Plot,
        Question,
        Task,
        Text,
        by_values,
        judged,
        show,
        table,
    )
    from minise.ops import reference as ops


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 9. Checking gradients: what weaker checks miss

    A wrong forward pass is noticed at once. With a wrong backward pass a net still trains, a little
    worse, and the mistake goes unnoticed. In [lesson 2](?file=02_linear.py) you compared two slopes
    along a direction $u$: $\langle dx, u \rangle$ from backward, and a difference of two runs of
    forward. In this lesson you find the best step of such a check, see which real bugs the usual
    shortcuts miss, and build a check that can be trusted.

    You need: the check of [lesson 2](?file=02_linear.py). The examples are from [batch
    normalisation](?file=05_batch_norm.py) and [squeeze and
    excitation](?file=06_squeeze_and_excitation.py).
    """)
    return


@app.cell(hide_code=True)
def _():
    _eps = np.finfo(float).eps
    _error = {
        n: abs((np.exp(1 + 10**-n) - np.exp(1 - 10**-n)) / (2 * 10**-n) / np.e - 1)
        for n in (1.0, 5.0, 12.0)
    }
    show(
        Question(
            r"""
    The slope of $e^x$ at $x = 1$ by a central difference in float64, whose numbers have 16 digits:
    which step is best, $h = 10^{-1}$, $10^{-5}$ or $10^{-12}$?
    """,
            rf"""
    $10^{{-5}}$: the relative error is {_error[5]:.0e}, against {_error[1]:.0e} with $10^{{-1}}$ and
    {_error[12]:.0e} with $10^{{-12}}$. The division by $2h$ magnifies the rounding of the two
    values, about {_eps:.0e}, to {_eps:.0e} / $h$; the error of the formula falls with $h^2$. The
    two are about equal where $h^3$ is {_eps:.0e}, at $h$ = {np.cbrt(_eps):.0e}.
    """,
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## How small a step?

    Let $g(h)$ be the loss after a step of $h$ along $u$, and $g'$, $g''$, $g'''$ its derivatives
    at 0: $g'$ is the slope that we want. One random direction tests all entries of a gradient at
    once: a wrong entry stays hidden only if the error is orthogonal to $u$, and a random $u$ is
    almost surely not. Taylor's series is
    $g(h) = g(0) + h g' + \tfrac{h^2}{2} g'' + \tfrac{h^3}{6} g''' + \dots$, so

    - **one-sided**: $(g(h) - g(0)) / h$ has the error $\tfrac{h}{2} g''$;
    - **central**: in $(g(h) - g(-h)) / 2h$ the even powers cancel, so the error is
      $\tfrac{h^2}{6} g'''$;
    - **complex step**: with $i h$ in place of $h$, the even powers are real, because $i^2 = -1$, so
      $\operatorname{imag} g(i h) = h g' - \tfrac{h^3}{6} g''' + \dots$. Divided by $h$, the
      error is $-\tfrac{h^2}{6} g'''$, as large as that of the central difference.

    If $h$ is large, these errors are large. If $h$ is small, two nearly equal numbers are
    subtracted, and their digits cancel. The best step is in between. The complex step subtracts
    nothing, so $h$ may be arbitrarily small: its curve coincides with the curve of the central
    difference until the digits of the latter cancel, and decreases further. It needs a forward
    whose functions accept complex numbers, as all ops of our reference do.

    The plot shows the error of the three slopes of a squeeze-and-excitation block, against the
    step.
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
        perturbed = [value + 0 * step for value in inputs]  # complex if the step is
        perturbed[3] = inputs[3] + step * direction
        return (dout * ops.squeeze_excite_forward(*perturbed)[0]).sum()

    steps = 10.0 ** -np.arange(1, 13)
    slopes = {
        "one-sided": [(loss(h) - loss(0.0)) / h for h in steps],
        "central": [(loss(h) - loss(-h)) / (2 * h) for h in steps],
        "complex step": [loss(1j * h).imag / h for h in steps],
    }
    errors = {way: abs(np.array(values) / exact - 1) + 1e-17 for way, values in slopes.items()}
    return errors, steps


@app.cell
def _(steps):
    which = mo.ui.slider(1, len(steps), value=3, label="n, for h = 10⁻ⁿ", show_value=True)
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
                f"difference is {_best['central']:.0e}, with the error "
                f"{errors['central'].min():.0e}."
            ),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The whole check

    For an op with many outputs take a random `dout`, and define the loss as the inner product
    $\langle \text{dout}, \text{out} \rangle$: the sum of the products of all entries. Then `dout`
    is the gradient of the loss with respect to `out`, and backward must compute the gradient with
    respect to the inputs. `minise.gradcheck.check` checks this for any pair of functions:

    - in float64, because a difference in float32 has too few correct digits;
    - with a random `dout`;
    - for every argument, also for `x`;
    - never across a kink: a ReLU or a maximum that changes its branch between $x - h$ and $x + h$;
    - with an error bound derived from rounding (2e-16, the precision of float64, times the number
      of terms, times their size), not with a tolerance that one raises until the test passes;
    - if that bound is not small compared with the gradient, the answer is neither right nor wrong
      but *could not be checked*: a wrong sign in the gradient of $10^{20} + \sin x$ cannot be seen
      in a difference in float64.

    As an example, check a linear layer with a mistake: its bias gradient is a mean, not a sum.
    """)
    return


@app.cell
def _():
    def wrong_linear_backward(dout, cache):
        dx, dweight, _ = ops.linear_backward(dout, cache)
        return dx, dweight, dout.mean(axis=0)

    numbers = np.random.default_rng(0)
    arrays = [numbers.standard_normal(shape) for shape in ((4, 3), (2, 3), (2,))]
    report = check(ops.linear_forward, wrong_linear_backward, arrays)
    Text(report)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Real bugs, and the checks that miss them

    Each row is a mistake that people make:

    - **BN: zero**: batch normalisation whose `dx` is zero;
    - **BN: no variance**: without the route through the variance;
    - **BN: unbiased**: `dx` is right but for its leading factor rstd, which is computed from the
      unbiased variance, while xhat stays as forward computed it; so `dx` is wrong by the factor
      $\sqrt{(M - 1) / M}$;
    - **SE: no gate**: squeeze and excitation without the route through the gate;
    - **pool: =**: max pooling with = instead of += for overlapping windows;
    - **conv: dbias**: the bias gradient of a convolution, from the first image only.

    Each column is a check that people use:

    - **ones**: `dout` is 1 everywhere, because the loss is `out.sum()`;
    - **out**: `dout` is `out`, because the loss is half the sum of squares;
    - **entry**: compares one random entry of each gradient;
    - **params**: compares all gradients except that of `x`;
    - **loose**: a correct check with a tolerance of 2 %;
    - **minise**: `check`, as above.

    Whether a check detects a bug depends on the random numbers. So each check runs many times, and
    the table shows how often it detects the bug. Draws in which the bug changes no number are left
    out.
    """)
    return


@app.cell
def _():
    def put(gradients, k, value):
        return (*gradients[:k], value, *gradients[k + 1 :])

    def norm_without_variance(gradients, dout, cache):
        mean = dout.mean(axis=(0, 2, 3), keepdims=True)
        return put(gradients, 0, (cache.gamma * cache.rstd)[:, None, None] * (dout - mean))

    def norm_zero(gradients, dout, cache):
        return put(gradients, 0, np.zeros_like(dout))

    def norm_unbiased(gradients, dout, cache):
        M = dout[:, 0].size
        return put(gradients, 0, gradients[0] * np.sqrt((M - 1) / M))

    def without_gate_route(gradients, dout, cache):
        return put(gradients, 0, dout * cache.gates.s)

    def pool_assigned(gradients, dout, cache):
        W, dx = cache.x.shape[3], np.zeros_like(cache.x)
        for n, c, p, q in np.ndindex(*dout.shape):
            i, j = divmod(cache.argmax[n, c, p, q], W)
            dx[n, c, i, j] = dout[n, c, p, q]  # = instead of +=
        return (dx,)

    def bias_of_first_image(gradients, dout, cache):
        return put(gradients, 2, dout[0].sum(axis=(1, 2)))

    NORM = Case("batch_norm2d", dict(N=4, C=2, H=4, W=4), dict(training=True))
    BUGS = {
        "BN: zero": (NORM, norm_zero),
        "BN: no variance": (NORM, norm_without_variance),
        "BN: unbiased": (NORM, norm_unbiased),
        "SE: no gate": (
            Case("squeeze_excite", dict(N=2, C=4, H=4, W=4, R=2)),
            without_gate_route,
        ),
        "pool: =": (
            Case("max_pool2d", dict(N=2, C=2, H=5, W=5), dict(kernel=(3, 3), stride=(2, 2))),
            pool_assigned,
        ),
        "conv: dbias": (
            Case("conv2d", dict(N=3, C=2, H=4, W=4, K=2, KH=3, KW=3)),
            bias_of_first_image,
        ),
    }
    return (BUGS,)


@app.cell(hide_code=True)
def _(BUGS):
    def weak_checks(forward, right, wrong, inputs, rng):
        """Return for each weaker check whether it detects the bug; its slopes are exact here.

        Return an empty dict if the bug changes no number: all hidden units are off, or no two
        windows have the same maximum.
        """
        out, cache = forward(*inputs)

        def relative_errors(dout):
            pairs = zip(right(dout, cache), wrong(dout, cache), strict=True)
            return [abs(a - b) / (np.max(abs(a)) + 1e-3) for a, b in pairs]

        random = relative_errors(rng.standard_normal(out.shape))
        if max(float(e.max()) for e in random) < 1e-12:
            return {}
        return {
            "ones": max(float(e.max()) for e in relative_errors(np.ones(out.shape))) > 1e-3,
            "out": max(float(e.max()) for e in relative_errors(out)) > 1e-3,
            "entry": max(float(rng.choice(e.ravel())) for e in random) > 1e-5,
            "params": max([float(e.max()) for e in random[1:]] or [0]) > 1e-5,
            "loose": max(float(e.max()) for e in random) > loose_tolerance,
        }

    def draw_all(case, bug, seed):
        """Draw a case: return forward, right and wrong backward, branches, inputs, rng."""
        rng = np.random.default_rng(seed)
        inputs, keywords = draw(case, rng)
        forward, right, branches = functions(ops, case.op, keywords)

        def wrong(dout, cache):
            return bug(right(dout, cache), dout, cache)

        return forward, right, wrong, branches, inputs, rng

    draws, loose_tolerance = 30, 0.02
    caught = {}
    for _name, (_case, _bug) in BUGS.items():
        _all = []
        for _seed in range(draws):
            _forward, _right, _wrong, _branches, _inputs, _rng = draw_all(_case, _bug, _seed)
            if _row := weak_checks(_forward, _right, _wrong, _inputs, _rng):
                _detected = not check(_forward, _wrong, _inputs, branches=_branches).ok
                _all.append({**_row, "minise": _detected})
        caught[_name] = {name: np.mean([row[name] for row in _all]) for name in _all[0]}
    return caught, draw_all, draws, loose_tolerance


@app.cell(hide_code=True)
def _(caught):
    _zero = caught["BN: zero"]
    _detecting = [name for name, share in _zero.items() if share]
    show(
        Question(
            """
    The first bug is a batch normalisation whose `dx` is zero everywhere. Nothing
    before it learns. Which of the six checks detect it?
    """,
            f"""
    Only {", ".join(f"**{name}**" for name in _detecting)}. **params** does not look at `dx`. With
    `dout` of ones the right `dx` is zero, too: the sum of a normalised channel is always the same.
    So is the sum of its squares, up to eps, and **out** misses the bug as well (lesson 5).
    """,
        )
    )
    return


@app.cell(hide_code=True)
def _(caught, draws):
    _checks = list(next(iter(caught.values())))
    _rows = [
        (bug, *(f"{share:.0%}" if share == 1 else f"**{share:.0%}**" for share in row.values()))
        for bug, row in caught.items()
    ]
    mo.md(
        table(["bug", *_checks], _rows)
        + f"\n\nShare of up to {draws} draws in which the check detects the bug; bold: below 100 %."
    )
    return


@app.cell(hide_code=True)
def _(BUGS, caught, draw_all, draws, loose_tolerance):
    _sizes = BUGS["BN: unbiased"][0].sizes
    _M = _sizes["N"] * _sizes["H"] * _sizes["W"]
    _case, _bug = BUGS["pool: ="]
    _wrong_entries = []
    for _seed in range(draws):
        _forward, _right, _wrong, _, _inputs, _rng = draw_all(_case, _bug, _seed)
        _out, _cache = _forward(*_inputs)
        _dout = _rng.standard_normal(_out.shape)
        _wrong_entries.append(np.sum(_right(_dout, _cache)[0] != _wrong(_dout, _cache)[0]))
    mo.md(f"""
    **BN: unbiased** makes `dx` {1 - np.sqrt(1 - 1 / _M):.1%} too small, less than the tolerance of
    **loose**, {loose_tolerance:.0%}. **pool: =** changes {np.mean(_wrong_entries):.1f} of
    {_inputs[0].size} entries on average, so one random **entry** shows it in
    {caught["pool: ="]["entry"]:.0%} of the draws. And **params** does not compare `dx`, where all
    these bugs are, except the last one.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    These shortcuts are used in practice. The library mlpack released batch normalisation with a
    wrong `dx`, because its tests, with no layer before it, compared only the gradients of the
    parameters ([issue 1923](https://github.com/mlpack/mlpack/issues/1923)). When a linear layer was
    put before every layer under test, so that its weights depended on `dx`, one more test failed:
    layer normalisation, written after the same pattern, had the same mistake ([pull request
    1930](https://github.com/mlpack/mlpack/pull/1930)). Our own tests insert such mistakes into
    every op, and the check has to detect each of them.

    ## Kinks

    At a kink there is no derivative. $\max(x, 0)$ at 0 has slope 0 on the left and 1 on the right,
    and a central difference gives 1/2, which no backward returns. This is not rare: a step of $h$
    crosses a kink whenever the distance of some $x$ to it is less than $h$. Our ops report on which
    side of its kinks each number is: `relu_branches(cache)`. The check compares the branches at
    $x - h$, $x$ and $x + h$ and takes a smaller step if they differ.
    """)
    return


@app.cell(hide_code=True)
def _():
    _x, _h = 2e-4, 1e-3
    _relu = [max(_x + step, 0.0) for step in (_h, -_h)]
    show(
        Question(
            rf"""
    A ReLU at $x = {_x:g}$, and a central difference with the step $h = {_h:g}$. Backward says 1,
    which is right. What does the difference say?
    """,
            rf"""
    $(\max({_x + _h:g}, 0) - \max({_x - _h:g}, 0)) / {2 * _h:g}$ =
    {(_relu[0] - _relu[1]) / (2 * _h):.1f}. The step crosses the kink, so one of the two sides is
    not on the line whose slope you want: the check is wrong, not backward.
    """,
        )
    )
    return


@app.cell
def _():
    near = np.array([-1.0, 2e-4, 1.0])
    kink_report = check(
        ops.relu_forward,
        ops.relu_backward,
        [near],
        mode="directional",
        branches=ops.relu_branches,
    )
    Text(kink_report)
    return (kink_report,)


@app.cell(hide_code=True)
def _(kink_report):
    _argument = kink_report.arguments[0]
    mo.md(f"""
    With the branches, the check tried {_argument.tried} steps, of which {_argument.crossed}
    crossed the kink, and used the step {_argument.step:.0e}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Exercise 1: a backward with two kinks

    The hard sigmoid is $\text{out} = \min(\max((x + 3) / 6, 0), 1)$: a slope of 1/6 between two
    constant parts. The cache contains `out`, but not `x`. At a kink the slope is 0, the same
    convention as in PyTorch. The numbers of this exercise are integers, so some of them are exactly
    at a kink. Write two lines.
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
                "dx is dout times the slope: 1/6 between the kinks, 0 elsewhere.",
                "np.where(inside, …, 0) selects; a product of 0 and an infinite dout would be NaN.",
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
    judged(exercise, hard_sigmoid_backward)
    return


@app.cell(hide_code=True)
def _():
    mo.md(rf"""
    ## Exercise 2: the check itself

    Write a gradient check. `forward(x)` returns `out, cache`, and `backward(dout, cache)` returns
    `dx`. Draw `dout` and `u` with `rng.standard_normal`. By backward, the slope of the loss
    ⟨dout, out⟩ along $u$ is ⟨dx, u⟩; by forward, it is the central difference. Return the relative
    error: the difference of the two slopes, divided by their size. An error below {BOUND:.0e}
    means that they agree.

    The cell below runs your check on correct backward passes and on the bugs in `dx` of this
    lesson, several times with other random numbers: it has to accept the first and reject the
    second. Two of them are repeated with a tiny and a huge `out`, which need a relative error; and
    near 0 the slope of $x^2$ is so small that it needs a central difference.
    """)
    return


@app.function
def slope_check(forward, backward, x, rng):
    h = 1e-5
    out, cache = forward(x)
    dout = ...
    u = ...
    by_backward = ...
    by_forward = ...
    error = ...
    return error


@app.cell(hide_code=True)
def _(BUGS, draw_all):
    pairs = []
    for _name, (_case, _bug) in BUGS.items():
        _forward, _right, _wrong, _, (_x, *_rest), _ = draw_all(_case, _bug, 0)

        def _of_x(x, _forward=_forward, _rest=_rest):
            return _forward(x, *_rest)

        for _backward, _is_right in ((_right, True), (_wrong, False)):
            if _case.op == "conv2d":
                continue  # the bug is not in dx

            def _dx(dout, cache, _backward=_backward):
                return _backward(dout, cache)[0]

            _title = f"{_case.op}, right" if _is_right else _name
            if _title not in [pair.name for pair in pairs]:
                pairs.append(Pair(_title, _of_x, _dx, _x, _is_right))

    _named = {pair.name: pair for pair in pairs}
    _ask = "is it relative to the slopes' size?"
    _near = np.random.default_rng(0).standard_normal(12) / 100
    pairs += [
        _named["SE: no gate"].times(1e-6, _ask),
        _named["squeeze_excite, right"].times(1e6, _ask),
        Pair(
            "x² near 0, right",
            lambda x: (x * x, x),
            lambda dout, x: 2 * x * dout,
            _near,
            right=True,
            shows="is the difference central?",
        ),
    ]
    return (pairs,)


@app.cell(hide_code=True)
def _(pairs):
    planted = Planted(
        slope_check,
        pairs,
        hints=(
            "dout and u are random, with the shapes of out and of x.",
            "An inner product is the sum of a product: (a * b).sum().",
            "After a step along u, out is forward(x + h * u)[0].",
            textwrap.dedent("""
    dout = rng.standard_normal(out.shape)
    u = rng.standard_normal(x.shape)
    by_backward = (backward(dout, cache) * u).sum()
    by_forward = (dout * (forward(x + h * u)[0] - forward(x - h * u)[0])).sum() / (2 * h)
    error = abs(by_backward - by_forward) / (abs(by_backward) + abs(by_forward))
    """).strip(),
        ),
    )
    _answer = [mo.md(planted.markdown())]
    if mo.app_meta().mode == "script":
        print(planted)
    if mo.app_meta().mode in ("run", "script") and planted.problem:  # nobody can write here
        _answer = [mo.Html(worksheet(source_of(slope_check), {}))]
    mo.vstack([*_answer, mo.Html(hints_html(planted.hints))])
    return (planted,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Task: a check to twelve digits

    In [lesson 2](?file=02_linear.py) you wrote `slopes(forward, backward, x, dout, u)`: the slope
    of ⟨dout, out⟩ along $u$ by backward, and by a central difference. Write it again, without a
    skeleton, and take the complex step in place of the difference. The two numbers have to be right
    to twelve digits, also where `out` is a small number plus a million: there a difference of two
    runs has lost its digits.
    """)
    return


@app.function
def complex_slopes(forward, backward, x, dout, u):
    """Return by_backward, by_forward; forward(x) returns out, cache."""
    ...


@app.cell(hide_code=True)
def _():
    def right_slopes(forward, backward, x, dout, u):
        h = 1e-30
        _, cache = forward(x)
        shifted, _ = forward(x + 1j * h * u)
        return (backward(dout, cache) * u).sum(), (dout * shifted.imag).sum() / h

    def _case(op, sizes, settings, offset=0.0):
        rng = np.random.default_rng(6)
        (x, *rest), keywords = draw(Case(op, sizes, settings), rng)
        forward, backward, _ = functions(ops, op, keywords)

        def of_x(x):
            out, cache = forward(x, *(value.astype(x.dtype) for value in rest))
            return out + offset, cache

        dout, u = rng.standard_normal(of_x(x)[0].shape), rng.standard_normal(x.shape)
        return of_x, lambda dout, cache: backward(dout, cache)[0], x, dout, u

    _norm = dict(N=2, C=2, H=2, W=3), dict(training=True)
    task = Task(
        by_values(
            right_slopes,
            [
                _case("squeeze_excite", dict(N=1, C=3, H=2, W=2, R=2), {}),
                _case("batch_norm2d", *_norm),
                _case("batch_norm2d", *_norm, offset=1e6),
            ],
            names=["by_backward", "by_forward"],
            rel_tol=1e-12,
        ),
        hints=(
            "by_backward is as before: the inner product of dx and u.",
            "One more run of forward, at x + 1j * h * u. Nothing is subtracted, so h may be tiny.",
            "The slope is the inner product of dout and the imaginary part of out, divided by h.",
        ),
        solution="""
            def complex_slopes(forward, backward, x, dout, u):
                h = 1e-30
                out, cache = forward(x)
                shifted, _ = forward(x + 1j * h * u)
                by_backward = (backward(dout, cache) * u).sum()
                by_forward = (dout * shifted.imag).sum() / h
                return by_backward, by_forward
        """,
    )
    return (task,)


@app.cell(hide_code=True)
def _(task):
    judged(task, complex_slopes)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Summary

    - A step along $u$ changes `out` by $J u$, where $J$ is the Jacobian: the derivative of every
      output in every input. Backward maps `dout` to $J^T \text{dout}$. If it is correct,
      $\langle \text{dout}, J u \rangle = \langle J^T \text{dout}, u \rangle$ for random `dout` and
      $u$. One pair of numbers tests the whole gradient.
    - Check in float64, check every argument, and do not cross kinks.
    - Test your check: insert mistakes, and see whether it detects them.
    - In your own tests use `from minise.gradcheck import assert_gradients`, or for a layer or a
      whole net `assert_layer_gradients(net, x)`. How it works:
      `minise/gradcheck/check.py` and
      `minise/gradcheck/slopes/differences.py`.

    Sources: Squire and Trapp, *Using complex variables to estimate derivatives of real functions*,
    SIAM Review 40 (1998); the notes of Stanford's course CS231n on gradient checks.
    """)
    return


if __name__ == "__main__":
    app.run()
