"""Recipes: named settings of whole runs, to repeat or to modify.

On the command line `minise train --recipe quick --seed 1`, in Python
`fit(replace(RECIPES["quick"], seed=1))`. A recipe states every setting that affects the result,
even where it equals the default, but not the folders of data and results.
"""

from minise.nn import SE
from minise.train.config import Recipe, TrainConfig

# Few epochs for a good net: one cycle of a high learning rate, and no images held out. Mean and
# standard deviation are the usual rounded values of CIFAR-10.
QUICK = TrainConfig(
    recipe="quick",
    data="cifar10",
    size=32,
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
    lr=0.2,
    schedule="cosine",
    warmup=0.15,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
    decay_all=False,
    label_smoothing=0.0,
)

RECIPES: dict[Recipe, TrainConfig] = {"quick": QUICK}
