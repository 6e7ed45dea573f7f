"""Load a trained net with its class names and preprocessing."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minise.checks import Array, StrPath, did_you_mean
from minise.data.batches import normaliser
from minise.data.crops import evaluation_size
from minise.data.evaluation import CentreCrop
from minise.data.pictures import read_image
from minise.data.values import conversion_of
from minise.files import CHECKPOINT, read
from minise.models.architecture import NET_FIELDS, NetSettings
from minise.models.named import build, settings
from minise.models.net import Net
from minise.nn import SE
from minise.nn.files import net_arrays, restore
from minise.ops import reference
from minise.ops.backend import Backend


@dataclass(frozen=True)
class Trained:
    """A net, the names of its classes, and the normalisation of its images.

    Attributes
    ----------
    net : Net
        A layer from normalised images (N, 3, H, W) to logits (N, classes).
    classes : tuple of str
        Names of the classes in the order of the logits.
    mean, std : tuple of 3 floats
        Mean and standard deviation of red, green and blue, for images scaled to 0..1.
    size : int
        Rows and columns of the training images.
    resized_crop : bool
        Whether the net was trained on random resized crops, so that images are to be scaled to
        data.evaluation_size(size) and cropped to their centre, as `read` does.
    """

    net: Net
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int = 32
    resized_crop: bool = False

    def read(self, path: StrPath, size: int | None = None) -> Array:
        """Return an image file as evaluation reads it: uint8 (3, size, size).

        Parameters
        ----------
        path : path
            The image file (needs Pillow; see data.read_image).
        size : int, optional
            Rows and columns of the result; by default those of the training images.
        """
        size = self.size if size is None else size
        if not self.resized_crop:
            return read_image(path, size)
        images = read_image(path, evaluation_size(size))[None]
        return CentreCrop(size, size)(images)[0]

    def normalise(self, images: Array) -> Array:
        """Return (images / 255 - mean) / std, the net's input, for uint8 images (N, 3, H, W)."""
        images = np.asarray(images)
        received, fix = "", "one image is images[None], (H, W, 3) is transpose(2, 0, 1)"
        if images.dtype != np.uint8:
            received, fix = conversion_of(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"normalise: images are {images.dtype}{received} of shape {images.shape}, expected "
                f"uint8 of shape (N, 3, H, W): {fix}"
            )
        dtype = next(iter(self.net.named_parameters().values())).dtype
        scale, shift = normaliser(self.mean, self.std, dtype)
        return self.net.ops.asarray(images * scale + shift)

    def predict(self, images: Array) -> Array:
        """Return the class probabilities (N, classes) of uint8 images (N, 3, H, W)."""
        logits = self.net.ops.asnumpy(self.net.predict(self.normalise(images)))
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)


def load(run: StrPath, *, ops: Backend | str = reference) -> Trained:
    """Load the trained net of a run folder or of a checkpoint.

    Parameters
    ----------
    run : str or path
        A run folder, whose best checkpoint is loaded (without validation, the last); or a
        checkpoint (.safetensors).
    ops : back end or str
        Back end of the loaded net.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint.
    ValueError
        If the checkpoint is damaged, or its net is not one of `models.names()`.
    """
    path = checkpoint_of(run)
    file = read(path, CHECKPOINT)
    config, data = file.texts["config"], file.texts["data"]
    check_named(path, config)
    model, se = config["model"], SE(**config.get("se", {}))
    own = NetSettings(**{name: config[name] for name in NET_FIELDS if name in config})
    settings = chosen_settings(model, se, own, config.get("size", 32))
    net = build(model, num_classes=len(data["classes"]), ops=ops, **settings)
    restore(net, net_arrays(file), str(path))
    normalisation = tuple(data["mean"]), tuple(data["std"])
    size, resized_crop = config.get("size", 32), config.get("resized_crop", False)
    return Trained(net, tuple(data["classes"]), *normalisation, size, resized_crop)


def checkpoint_of(run: StrPath, name: str = "best") -> Path:
    """Return the file of a run folder's checkpoint, or run itself if it is a file.

    Parameters
    ----------
    run : str or path
        A run folder or a checkpoint (.safetensors).
    name : {"best", "last"}
        The checkpoint of a folder; without validation, "best" is the last.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder, or no checkpoint in the folder.
    """
    path = Path(run)
    if not path.is_dir():
        if not path.exists():
            near = did_you_mean(path.name, os.listdir(path.parent) if path.parent.is_dir() else [])
            raise FileNotFoundError(
                f"{path} does not exist, expected a checkpoint (.safetensors) or the folder of a "
                f"run{near}"
            )
        return path
    best, last = (path / f"{stem}.safetensors" for stem in ("best", "last"))
    chosen = best if name == "best" and best.exists() else last
    if not chosen.exists():
        runs = sorted(path.glob("*/last.safetensors"))
        remedy = (
            f"pass a run such as {runs[-1].parent}" if runs else "pass the folder of another run"
        )
        raise FileNotFoundError(f"{chosen} does not exist, expected a checkpoint: {remedy}")
    return chosen


def check_named(path: Path, config: Any) -> None:
    """Raise ValueError if a checkpoint's settings name no model: the net was the user's own."""
    if isinstance(config, dict) and "model" not in config:
        raise ValueError(
            f"{path} holds a custom net, expected one of models.names(): build the net as for "
            f"training, then nn.load(net, {str(path)!r})"
        )


def chosen_settings(model: str, se: SE, net: NetSettings, size: Any = None) -> dict[str, Any]:
    """Return the keyword arguments of `build` for a model; size is that of the images.

    They include settings that the model does not have but that differ from their defaults, so that
    `build` raises an error that names them.
    """
    chosen: dict[str, Any] = {}
    if model.startswith("se_") or se != SE():
        chosen["se"] = se
    own = settings(model)
    for name, default in NET_FIELDS.items():
        if name in own or getattr(net, name) != default:
            chosen[name] = getattr(net, name)
    if "image_size" in own and size is not None:
        chosen["image_size"] = size
    return chosen
