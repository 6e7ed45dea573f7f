"""Data sets, augmentation, batches; everything random is a function of seed, epoch and index.

file or formula -> Dataset (uint8) -> Batches (shuffle, augment, normalise) -> float32 NCHW
"""

from minise.data.augment import Augment
from minise.data.batches import Batch, Batches, moments
from minise.data.cifar import cifar10, cifar100
from minise.data.dataset import Dataset, hold_out
from minise.data.folder import image_folder, read_image
from minise.data.shapes10 import Shapes, shapes10
from minise.data.sheet import blocks, sheet, write_png
from minise.data.source import found, load, names
from minise.data.streams import stream

__all__ = [
    "Augment",
    "Batch",
    "Batches",
    "Dataset",
    "Shapes",
    "blocks",
    "cifar10",
    "cifar100",
    "found",
    "hold_out",
    "image_folder",
    "load",
    "moments",
    "names",
    "read_image",
    "shapes10",
    "sheet",
    "stream",
    "write_png",
]
