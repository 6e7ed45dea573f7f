"""Data sets, augmentation, batches; all random numbers are functions of seed, epoch and index.

file or formula -> Dataset (uint8) -> Batches (shuffle, augment, normalise) -> float32 NCHW
"""

from typing import Any

from minise.data.augment import Augment
from minise.data.batches import Batch, Batches, moments
from minise.data.cifar import cifar10, cifar100
from minise.data.crops import evaluation_size
from minise.data.dataset import Dataset, hold_out
from minise.data.evaluation import CentreCrop, enlarged, ten_crops
from minise.data.fingerprint import fingerprint
from minise.data.folder import image_folder, read_image
from minise.data.lazy import LazyImages
from minise.data.pictures import ImageError
from minise.data.shapes10 import Shapes, shapes10
from minise.data.sheet import blocks, sheet, write_png
from minise.data.source import availability, load, names
from minise.data.streams import stream
from minise.data.values import DataWarning

__all__ = [
    "Augment",
    "Batch",
    "Batches",
    "CentreCrop",
    "DataWarning",
    "Dataset",
    "ImageError",
    "LazyImages",
    "Shapes",
    "availability",
    "blocks",
    "cifar10",
    "cifar100",
    "enlarged",
    "evaluation_size",
    "fingerprint",
    "hold_out",
    "image_folder",
    "load",
    "moments",
    "names",
    "read_image",
    "shapes10",
    "sheet",
    "stream",
    "ten_crops",
    "write_png",
]


def __getattr__(name: str) -> Any:
    """Return `availability` for its old name, found."""
    if name == "found":
        return availability
    raise AttributeError(f"minise.data has no {name!r}, expected one of {', '.join(__all__)}")
