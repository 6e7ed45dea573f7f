"""Recipes: named settings of whole runs, to repeat or to modify.

On the command line `minise train --recipe quick --seed 1`, in Python
`fit(replace(RECIPES["quick"], seed=1))`. A recipe states every setting that affects the result,
even where it equals the default, but not the folders of data and results. With another model, the
recipe's settings that this model does not have are left out.
"""

from collections.abc import Collection
from dataclasses import fields, replace

from minise.data.shapes10 import SIDE
from minise.data.source import names as names_of_data
from minise.models import architecture, settings
from minise.models.architecture import NET_FIELDS
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
    resized_crop=False,
    flip=True,
    cutout=0,
    model="se_resnet20",
    se=SE(reduction=4, bias=True),
    shortcut="B",
    geometry="caffe",
    stem="imagenet",
    width=1.0,
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


def for_model(config: TrainConfig, chosen: Collection[str] | None = None) -> TrainConfig:
    """Return config without inherited settings that its model does not have.

    Parameters
    ----------
    config : TrainConfig
        The settings.
    chosen : collection of str, optional
        Names of the settings that the user chose, such as {"reduction", "model"}; the others are
        inherited. By default, a setting is chosen if it differs from its default and, if config
        has a recipe, from the recipe's.

    Returns
    -------
    TrainConfig
        config, with the default of each setting that the model does not have, and the size of the
        images.

    Raises
    ------
    TypeError
        If a chosen setting is one that the model does not have.
    ValueError
        If the model is unknown.
    """
    name, se, own = config.model, SE(), settings(config.model)
    absent = {field: default for field, default in NET_FIELDS.items() if field not in own}
    se_fields = [] if name.startswith("se_") else [field.name for field in fields(SE)]
    if chosen is None:
        default = replace(config, se=se, **NET_FIELDS)
        recipe = RECIPES[config.recipe] if config.recipe else default
        values, *inherited = (
            {**vars(c.se), **{field: getattr(c, field) for field in NET_FIELDS}}
            for c in (config, default, recipe)
        )
        chosen = {key for key, value in values.items() if all(value != i[key] for i in inherited)}
    if wrong := [field for field in se_fields if field in chosen]:
        raise TypeError(
            f"model {name} has no SE blocks, but {', '.join(wrong)} is set: use se_{name}"
        )
    if wrong := [field for field in absent if field in chosen]:
        raise TypeError(
            f"model {name} has no setting {', '.join(wrong)}, expected any of: {', '.join(own)}"
        )
    side, _ = architecture(name).images(config.stem)
    size = SIDE if config.data in names_of_data() else side
    return replace(
        config,
        se=se if se_fields else config.se,
        size=size if config.size is None else config.size,
        **absent,
    )
