"""Wrong answers to the tasks of the lessons, made from their solutions, and what is said of each.

By lesson: text of the solution, its replacement, part of the answer. At least two for each task.
"""

WRONG = {
    "01_chain_rule": [
        ("dcentred - dcentred.mean()", "dcentred", "0.245642, the derivative of forward is 0.15"),
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
}
