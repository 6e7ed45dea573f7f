"""Check images and labels by dtype, shape and range; each message has the fix for these values."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minise.data.lazy import LazyImages

IMAGES_TO_INSPECT = 100  # evenly spaced, so that an np.memmap is not read as a whole


class DataWarning(UserWarning):
    """Files that are not read, or classes without images."""


def check_images(images: Any) -> None:
    """Raise TypeError or ValueError unless images are uint8 of shape (N, 3, H, W).

    Warns
    -----
    DataWarning
        If all values of 100 of the images are 0 or 1, as after astype(np.uint8) of images in 0..1.
    """
    if isinstance(images, LazyImages):
        return
    if not isinstance(images, np.ndarray):
        kind = type(images).__name__
        raise TypeError(
            f"Dataset: images is {kind}, expected an array of uint8: pass np.asarray(images)"
        )
    if images.dtype != np.uint8:
        received, fix = conversion_of(images)
        raise TypeError(
            f"Dataset: images is {images.dtype}{received}, expected an array of uint8, 0..255: "
            f"{fix}"
        )
    if images.ndim == 4 and images.shape[1] == 3 and images.size:
        if images[:: -(-len(images) // IMAGES_TO_INSPECT)].max() == 1:
            text = (
                "Dataset: every value of images is 0 or 1, expected 0..255, so all are nearly "
                "black: pass np.rint(255 * images).astype(np.uint8) of the images in 0..1"
            )
            warnings.warn(text, DataWarning, stacklevel=4)
        return
    fix = "transpose or reshape"
    if images.ndim == 4 and images.shape[3] == 3:
        fix = "pass images.transpose(0, 3, 1, 2)"
    elif images.ndim == 4 and images.shape[1] == 1:
        fix = "pass images.repeat(3, axis=1) for grey images"
    elif images.ndim == 3:
        fix = "pass images[None] for one image, or images[:, None].repeat(3, axis=1) for grey ones"
    raise ValueError(
        f"Dataset: images has shape {images.shape}, expected (N, 3, H, W) and no axis empty: {fix}"
    )


def conversion_of(images: NDArray[Any]) -> tuple[str, str]:
    """Return the range of images that are not uint8, for a message, and their conversion."""
    if images.dtype.kind not in "biuf" or not images.size:
        return "", "convert the images to numbers in 0..255"
    if images.dtype.kind == "b":
        return "", "pass 255 * images.astype(np.uint8)"
    low, high = images.min(), images.max()
    text = f" with values {low:.6g} to {high:.6g}"
    integers = images.dtype.kind in "iu"
    if not (np.isfinite(low) and np.isfinite(high)):
        return " with NaN or infinity", "correct these values before the conversion"
    if integers and low >= 0 and high <= 1:
        fix = "pass (255 * images).astype(np.uint8) if 1 is white"
    elif low >= 0 and high <= 1:
        fix = "pass np.rint(255 * images).astype(np.uint8)"
    elif low >= 0 and high <= 255:
        fix = f"pass {'images' if integers else 'np.rint(images)'}.astype(np.uint8) if 255 is white"
    elif low >= -1 and high <= 1:
        fix = "pass np.rint(127.5 * (images + 1)).astype(np.uint8) if -1 is black and 1 white"
    elif integers and low >= -128 and high <= 127:
        fix = "pass (images.astype(np.int16) + 128).astype(np.uint8) if -128 is black and 127 white"
    elif integers and low >= 0 and high <= 65535:
        fix = "pass np.rint(images / 257).astype(np.uint8) if 65535 is white"
    else:
        fix = (
            "undo the normalisation (images * std + mean, 0..1), then pass "
            "np.rint(255 * images).clip(0, 255).astype(np.uint8)"
        )
    return text, fix


def check_labels(labels: Any, count: int, classes: Sequence[str]) -> None:
    """Raise TypeError or ValueError unless labels are count integers in 0..len(classes)-1."""
    if not isinstance(labels, np.ndarray):
        kind = type(labels).__name__
        raise TypeError(
            f"Dataset: labels is {kind}, expected an array of integers: pass np.asarray(labels)"
        )
    if labels.ndim == 2 and labels.shape[0] == count and labels.shape[1] > 1:
        raise ValueError(
            f"Dataset: labels has shape {labels.shape}, expected (N,), a class number for each "
            "image: if the rows are one-hot, pass labels.argmax(axis=1)"
        )
    if labels.ndim != 1:
        raise ValueError(
            f"Dataset: labels has shape {labels.shape}, expected (N,): pass labels.ravel()"
        )
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"Dataset: labels is {labels.dtype}, expected an array of integers, 0..classes-1: "
            f"{_as_integers(labels)}"
        )
    if len(labels) != count:
        raise ValueError(f"Dataset: {len(labels)} labels for {count} images: pass one per image")
    _check_range(labels, len(classes))


def _as_integers(labels: NDArray[Any]) -> str:
    """Return the fix for labels that are not integers."""
    if labels.dtype.kind == "b":
        return "pass labels.astype(np.int64)"
    if labels.dtype.kind == "f":
        if np.isfinite(labels).all() and (labels == np.rint(labels)).all():
            return "pass labels.astype(np.int64)"
        return "some of these are no integers, so they cannot be class numbers"
    return "pass classes, labels = np.unique(labels, return_inverse=True) for names of classes"


def _check_range(labels: NDArray[Any], classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise ValueError(
            f"Dataset: label {low} is negative, expected 0..{classes - 1} with {classes} classes: "
            "count classes from 0, and leave out images without a label"
        )
    if high >= classes:
        fix = "name more classes or correct the labels"
        if low == 1 and high == classes:
            fix = "the labels count from 1, so pass labels - 1"
        raise ValueError(
            f"Dataset: label {high} has no name, expected 0..{classes - 1} with {classes} "
            f"classes: {fix}"
        )
