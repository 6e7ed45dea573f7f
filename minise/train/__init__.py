"""Training: optimiser, schedule, loop, checkpoint, run folder, recipes."""

from minise.train.checkpoint import Checkpoint, load, restore, save
from minise.train.config import TrainConfig
from minise.train.evaluate import Evaluation, evaluate
from minise.train.interrupt import Interrupted
from minise.train.loop import NonFiniteLoss, Result, fit, run, train_step
from minise.train.recipes import RECIPES
from minise.train.schedule import rate_at
from minise.train.setup import Training, prepare
from minise.train.sgd import SGD

__all__ = [
    "RECIPES",
    "SGD",
    "Checkpoint",
    "Evaluation",
    "Interrupted",
    "NonFiniteLoss",
    "Result",
    "TrainConfig",
    "Training",
    "evaluate",
    "fit",
    "load",
    "prepare",
    "rate_at",
    "restore",
    "run",
    "save",
    "train_step",
]
