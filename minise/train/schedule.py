"""Learning-rate schedules: a linear warm-up, then a cosine down to 0 or the paper's two steps.

Source: Loshchilov and Hutter, "SGDR", arXiv:1608.03983, for the cosine; He et al.,
arXiv:1512.03385, section 4.2, for the steps: a tenth after 32k and 48k of 64k iterations.
"""

import math

SCHEDULES = ("cosine", "steps")
DROPS = (1 / 2, 3 / 4)  # fractions of the run after which the learning rate drops to a tenth


def lr_at(step: int, steps: int, *, peak: float, schedule: str, warmup: float) -> float:
    """Return the learning rate of a step.

    Parameters
    ----------
    step, steps : int
        Index of the step, from 0, and number of steps in the whole run.
    peak : float
        The highest learning rate.
    schedule : {"cosine", "steps"}
        The decay after the warm-up.
    warmup : float
        Fraction of the run, 0..1, in which the learning rate rises linearly from 0.
    """
    rising = warmup * steps
    if step < rising:
        return peak * (step + 1) / (math.floor(rising) + 1)
    if schedule == "steps":
        return peak * 0.1 ** sum(step >= drop * steps for drop in DROPS)
    return peak * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


rate_at = lr_at  # an old name
