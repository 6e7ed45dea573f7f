"""Learning rates: a linear warm-up, then a cosine down to 0 or the paper's two steps.

Source: Loshchilov and Hutter, "SGDR", arXiv:1608.03983, for the cosine; He et al.,
arXiv:1512.03385, section 4.2, for the steps: a tenth after 32k and 48k of 64k iterations.
"""

import math

SCHEDULES = ("cosine", "steps")
DROPS = (1 / 2, 3 / 4)  # of the run


def rate_at(step: int, steps: int, *, peak: float, schedule: str, warmup: float) -> float:
    """Return the learning rate of a step.

    Parameters
    ----------
    step, steps : int
        Which step, from 0, of how many in the whole run.
    peak : float
        The highest rate.
    schedule : {"cosine", "steps"}
        What follows the warm-up.
    warmup : float
        Share of the run in which the rate rises linearly from 0, 0..1.
    """
    rising = warmup * steps
    if step < rising:
        return peak * (step + 1) / (math.floor(rising) + 1)
    if schedule == "steps":
        return peak * 0.1 ** sum(step >= drop * steps for drop in DROPS)
    return peak * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2
