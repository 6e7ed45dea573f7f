"""Wrong answers to the tasks of the lessons, made from their solutions, and what is said of each.

By lesson: text of the solution, its replacement, part of the answer. At least two for each task.
"""

WRONG = {
    "01_chain_rule": [
        (" - dcentred.mean(axis=1, keepdims=True)", "", "the error is constant per row: the term"),
        ("mean(axis=1, keepdims=True)", "mean()", "dx: the error is constant per row"),
        ("dout * 2 * centred", "dout * centred", "dx: the gradient is 0.5 times the correct one"),
    ],
    "02_linear": [
        ("forward(x - h * u)[0]", "forward(x)[0]", "by_forward: is 0.620865, expected 1.24167"),
        ("(2 * h)", "h", "by_forward is wrong, by_backward is right"),
        ("(backward(dout, cache) * u).sum()", "(dout * u).sum()", "by_backward: is -1.10948"),
        ("return by_backward, by_forward", "return by_forward", "it returns 1 value, expected 2"),
    ],
    "03_convolution": [
        ("dx[i : i + P] += ", "dx[i : i + P] = ", "dx: all of index of axis 0: 0, 6 is right"),
        ("dout * weight[i]", "dout * weight[-i - 1]", "dx is wrong, dweight is right"),
        ("return dx, dweight", "return dweight, dx", "dx: gradient has shape (3,), expected (7,)"),
    ],
    "04_pooling": [
        ("dout / (2 * out)", "dout", "dx: the gradient is wrong by a factor per image and channel"),
        (" / (H * W)", "", "too large by a factor of H*W = 20: the 1/(H*W) of a mean is missing"),
        ("dmean[:, :, None, None] / (H * W)", "dmean / (H * W)", "it fails: ValueError: operands"),
    ],
    "05_batch_norm": [
        ("dxhat - by_mean - by_variance", "dxhat - by_mean", "the term through the row variance"),
        ("dxhat = gamma * dout", "dxhat = dout", "dx is wrong, dgamma and dbeta are right"),
        ("(dout * xhat).sum(axis=0)", "(dout * xhat).sum(axis=1)", "dgamma: gradient has shape"),
    ],
    "06_squeeze_and_excitation": [
        (
            "dx.reshape(N, C, H * W)[n, c, argmax] += dz",
            "dx += (dz / (H * W))[:, :, None, None]",
            "max_gate_backward: dx is wrong, da and db are right",
        ),
        ("dv = ds * s * (1 - s)", "dv = ds * s", "max_gate_backward: dx, da and db are wrong"),
        (
            "(dv * z).sum(axis=0)",
            "(dv * z).mean(axis=0)",
            "da: the gradient is too small by a factor of N = 2: a mean instead of a sum",
        ),
    ],
    "07_residual_blocks": [
        (
            "dbranch + dout",
            "dbranch",
            "preact_unit_backward: dx is wrong, dgamma, dbeta and dweight are right",
        ),
        (
            "(dy1,) = ops.relu_backward(dy2, c2)",
            "dy1 = dy2",
            "preact_unit_backward: dx, dgamma and dbeta are wrong, dweight is right",
        ),
    ],
    "08_training": [
        (" / len(wanted)", "", "dlogits: the gradient is too large by a factor of N = 3"),
        (
            "np.exp(logprob) - wanted",
            "np.exp(logprob) - (wanted > 0.5)",
            "smoothed_loss_backward: dlogits is wrong",
        ),
    ],
    "09_checking_gradients": [
        (
            "(dout * shifted.imag).sum() / h",
            "(dout * (forward(x + 1e-5 * u)[0] - forward(x - 1e-5 * u)[0])).sum() / 2e-5",
            "complex_slopes: by_forward is wrong, by_backward is right",
        ),
        (
            "shifted.imag).sum() / h",
            "shifted.imag).sum()",
            "by_forward: is -2.86129e-31, expected -0.286129",
        ),
    ],
    "10_seven_loops_to_winograd": [
        (
            "(dproducts * points).sum(axis=0)",
            "(dproducts * points).mean(axis=0)",
            "dg: the gradient is too small by a factor of N = 3: a mean instead of a sum",
        ),
        ("dpoints @ B_T", "dpoints @ B_T.T", "winograd_backward: dd is wrong, dg is right"),
    ],
    "11_numpy_to_cuda": [
        (
            "dout[row * (W - 1) + i - 1]",
            "dout[row * W + i - 1]",
            "spread_neighbours: it fails: IndexError",
        ),
        ("if i > 0:", "if thread > 0:", "spread_neighbours: dx is wrong"),
        ("dx[thread] = total", "dx[i] = total", "dx: gradient has NaN or infinity"),
    ],
}
