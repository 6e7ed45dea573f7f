"""Wrong answers to the tasks of lessons 6 to 11: plausible ones, and what the answer must say."""

WRONG = [  # lesson, function, text of the solution, its replacement, words of the answer
    (
        "06_squeeze_and_excitation",
        "max_gate_backward",
        "dx.reshape(N, C, H * W)[n, c, argmax] += dz",
        "dx += (dz / (H * W))[:, :, None, None]",  # the route of a mean
        "max_gate_backward: dx is wrong, da and db are right",
    ),
    (
        "06_squeeze_and_excitation",
        "max_gate_backward",
        "dv = ds * s * (1 - s)",
        "dv = ds * s",
        "max_gate_backward: dx, da and db are wrong",
    ),
    (
        "06_squeeze_and_excitation",
        "max_gate_backward",
        "(dv * z).sum(axis=0)",
        "(dv * z).mean(axis=0)",
        "da: the gradient is too small by a factor of N = 2: a mean instead of a sum",
    ),
    (
        "07_residual_blocks",
        "preact_unit_backward",
        "dbranch + dout",
        "dbranch",
        "preact_unit_backward: dx is wrong, dgamma, dbeta and dweight are right",
    ),
    (
        "07_residual_blocks",
        "preact_unit_backward",
        "(dy1,) = ops.relu_backward(dy2, c2)",
        "dy1 = dy2",
        "preact_unit_backward: dx, dgamma and dbeta are wrong, dweight is right",
    ),
    (
        "08_training",
        "smoothed_loss_backward",
        " / len(wanted)",
        "",
        "dlogits: the gradient is too large by a factor of N = 3",
    ),
    (
        "08_training",
        "smoothed_loss_backward",
        "np.exp(logprob) - wanted",
        "np.exp(logprob) - (wanted > 0.5)",  # without smoothing
        "smoothed_loss_backward: dlogits is wrong",
    ),
    (
        "09_checking_gradients",
        "complex_slopes",
        "(dout * shifted.imag).sum() / h",
        "(dout * (forward(x + 1e-5 * u)[0] - forward(x - 1e-5 * u)[0])).sum() / 2e-5",
        "complex_slopes: by_forward is wrong, by_backward is right",
    ),
    (
        "09_checking_gradients",
        "complex_slopes",
        "shifted.imag).sum() / h",
        "shifted.imag).sum()",
        "by_forward: is -2.86129e-31, expected -0.286129",
    ),
    (
        "10_seven_loops_to_winograd",
        "winograd_backward",
        "(dproducts * points).sum(axis=0)",
        "(dproducts * points).mean(axis=0)",
        "dg: the gradient is too small by a factor of N = 3: a mean instead of a sum",
    ),
    (
        "10_seven_loops_to_winograd",
        "winograd_backward",
        "dpoints @ B_T",
        "dpoints @ B_T.T",
        "winograd_backward: dd is wrong, dg is right",
    ),
    (
        "11_numpy_to_cuda",
        "spread_neighbours",
        "dout[row * (W - 1) + i - 1]",
        "dout[row * W + i - 1]",
        "spread_neighbours: it fails: IndexError",
    ),
    (
        "11_numpy_to_cuda",
        "spread_neighbours",
        "if i > 0:",
        "if thread > 0:",
        "spread_neighbours: dx is wrong",
    ),
    (
        "11_numpy_to_cuda",
        "spread_neighbours",
        "dx[thread] = total",
        "dx[i] = total",  # several threads write one entry, the others stay NaN
        "dx: gradient has NaN or infinity",
    ),
]
