"""Recipes: settings of a whole run under a name, to be repeated or to be started from.

On the command line `minise train --recipe quick --seed 1`, in Python
`fit(replace(RECIPES["quick"], seed=1))`. A recipe states all that an outcome depends on, also
where it agrees with the defaults, and leaves open where data and results lie.
"""

from minise.nn import SE
from minise.train.config import Recipe, TrainConfig

# As few epochs as still make a good net: a high rate that rises and falls once, and no image held
# back. Mean and deviation are those of CIFAR-10 as they are usually rounded.
QUICK = TrainConfig(
    recipe="quick",
    data="cifar10",
    val=0,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.247, 0.2435, 0.2616),
    crop=4,
    flip=True,
    cutout=0,
    model="se_resnet20",
    se=SE(reduction=4, bias=True),
    shortcut="B",
    ops="jit",
    algorithm="auto",
    epochs=12,
    batch_size=128,
    accumulate=1,
    rate=0.2,
    schedule="cosine",
    warmup=0.15,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
    decay_all=False,
    label_smoothing=0.0,
)

RECIPES: dict[Recipe, TrainConfig] = {"quick": QUICK}
