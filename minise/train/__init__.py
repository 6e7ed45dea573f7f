"""Training: objective, optimiser, schedule, loop, checkpoint, run folder, recipes."""

from minise.train.checkpoint import Checkpoint, load, restore, save
from minise.train.config import TrainConfig, read_config
from minise.train.evaluate import Confusion, evaluate, ten_crop_logits
from minise.train.finite import NonFiniteLoss, NonFiniteState, check_state
from minise.train.interrupt import Interrupted
from minise.train.loop import train
from minise.train.objective import Objective, SoftmaxCrossEntropy
from minise.train.own import run
from minise.train.recipes import RECIPES
from minise.train.replay import replay
from minise.train.resume import prepare_resume, resume
from minise.train.schedule import lr_at, rate_at
from minise.train.setup import fit, prepare
from minise.train.sgd import SGD
from minise.train.step import train_step
from minise.train.training import Result, Training

__all__ = [
    "RECIPES",
    "SGD",
    "Checkpoint",
    "Confusion",
    "Interrupted",
    "NonFiniteLoss",
    "NonFiniteState",
    "Objective",
    "Result",
    "SoftmaxCrossEntropy",
    "TrainConfig",
    "Training",
    "check_state",
    "evaluate",
    "fit",
    "load",
    "lr_at",
    "prepare",
    "prepare_resume",
    "rate_at",
    "read_config",
    "replay",
    "restore",
    "resume",
    "run",
    "save",
    "ten_crop_logits",
    "train",
    "train_step",
]
