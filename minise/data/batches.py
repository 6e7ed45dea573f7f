"""Batches of a data set: shuffled, augmented, normalised, optionally prefetched by a thread."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minise.checks import check_flag, check_integer, check_triple, check_within
from minise.data.augment import Augment, Draw
from minise.data.dataset import Bytes, Dataset
from minise.data.evaluation import CentreCrop
from minise.data.lazy import LazyImages
from minise.data.prefetch import prefetched
from minise.data.streams import stream

MAX_MOMENTS_IMAGES = 2000  # LazyImages that moments decodes
MOMENTS_PIXELS = 2**20  # of the images that it decodes at a time: 1,024 of 32 x 32


class Batch(NamedTuple):
    """Images and labels of one training step."""

    images: NDArray[Any]  # (n, 3, H, W)  normalised
    labels: NDArray[np.int64]  # (n,)


class Batches:
    """The batches of a data set, in a different order each epoch.

    Parameters
    ----------
    dataset : Dataset
        The images; an image's index in it determines its random numbers.
    batch_size : int
        Images per batch; the last batch of an epoch may have fewer.
    seed : int
        Seed of order and augmentation, which depend only on seed, epoch and the image's index.
    shuffle : bool
        Whether each epoch has its own random order; otherwise the order of the data set.
    augment : Augment, CentreCrop or None
        Augmentation before normalisation, or a crop for evaluation.
    mean, std : sequence of 3 floats
        Mean, 0..1, and standard deviation, at most 1, per channel for images scaled to 0..1: images
        become (image / 255 - mean) / std. Use the training images' values (see `moments`), also
        for validation and test.
    dtype : float32 or float64
        dtype of the batches' images.
    drop_last : bool
        Whether to skip a last batch with fewer images.
    prefetch : int or None
        Number of batches that a thread prepares ahead; 0 prepares each batch on demand. None means
        2 for LazyImages, so that they are decoded ahead of use, and 0 for images in memory.

    Notes
    -----
    Time of a batch of 128 x 3 x 32 x 32, cropped, flipped, normalised: 0.4 ms (one of two shared
    vCPUs, AMD EPYC). A thread saved nothing there: between steps of 9.1 ms in NumPy's matmul a
    batch took 0.7 ms with prefetch=0 and 0.7 ms with prefetch=2; between steps of 1.4 ms in short
    ufuncs, which compete for the interpreter lock, 0.6 and 0.7 ms. Hence no thread for images in
    memory; use one for steps that leave a core idle, as on a GPU, or for larger images.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        augment: Augment | CentreCrop | None = None,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: DTypeLike = np.float32,
        drop_last: bool = False,
        prefetch: int | None = None,
    ) -> None:
        check_integer("Batches", "batch_size", batch_size, 1)
        check_integer("Batches", "seed", seed, 0)
        if prefetch is None:
            prefetch = 2 if isinstance(dataset.images, LazyImages) else 0
        check_integer("Batches", "prefetch", prefetch, 0)
        check_flag("Batches", "shuffle", shuffle)
        check_flag("Batches", "drop_last", drop_last)
        if drop_last and batch_size > len(dataset):
            raise ValueError(
                f"Batches: batch_size is {batch_size}, expected at most {len(dataset)}, the number "
                "of images, with drop_last=True: no batch would be left"
            )
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.shuffle, self.augment, self.drop_last = shuffle, augment, drop_last
        self.prefetch = prefetch
        if augment is not None:
            augment.check(dataset.images.shape)
        self._scale, self._shift = normaliser(mean, std, dtype)
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.dtype = self._scale.dtype

    def __len__(self) -> int:
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the images' indices (N,) in the order of an epoch.

        The order is the argsort of random words, so it does not depend on NumPy's shuffle, which
        may change between versions.
        """
        N = len(self.dataset)
        if not self.shuffle:
            return np.arange(N)
        return np.argsort(stream(self.seed, epoch, "order").random_raw(N), kind="stable")

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return an iterator over the batches of an epoch, counted from 0, from batch start on.

        The first `start` batches are neither decoded nor prepared; start is at most len(self).
        """
        check_within("epoch", "start", start, 0, len(self), "an epoch has no more batches")
        order, draw = self.order(epoch), self._draw(epoch)
        batches = (self._prepare(order, draw, k) for k in range(start, len(self)))
        return prefetched(batches, self.prefetch) if self.prefetch else batches

    def batch(self, epoch: int, k: int) -> Batch:
        """Return batch k of an epoch without the others, bit-identical to `epoch`'s."""
        check_within("batch", "k", k, 0, len(self) - 1, "an epoch has no more batches")
        return self._prepare(self.order(epoch), self._draw(epoch), k)

    def _draw(self, epoch: int) -> Draw:
        """Return the function that draws the random words of images in an epoch."""
        augment = self.augment if isinstance(self.augment, Augment) else Augment()
        return augment.draw(self.seed, epoch, len(self.dataset))

    def _prepare(self, order: NDArray[np.int64], draw: Draw, k: int) -> Batch:
        indices = order[k * self.batch_size : (k + 1) * self.batch_size]
        source, augment = self.dataset.images, self.augment
        images: Any
        if isinstance(source, LazyImages) and isinstance(augment, Augment) and augment.resized_crop:
            images = source.view(indices)  # the crop decodes them
        else:
            images = source[indices]
        if augment is not None:
            images = augment(images, draw(indices))
        labels = self.dataset.labels[indices].astype(np.int64)
        return Batch(self._normalised(images), labels)

    def _normalised(self, images: Bytes) -> NDArray[Any]:
        # 128 images take 0.14 ms; a table lookup for each byte takes 0.22 ms
        out = np.multiply(images, self._scale, dtype=self._scale.dtype)
        out += self._shift
        return out


def moments(dataset: Dataset, seed: int = 0) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of each channel, for images scaled to 0..1.

    The sums are integers, so nothing is rounded before the last two divisions and the root.

    Parameters
    ----------
    dataset : Dataset
        All images in memory are used, or 2,000 of LazyImages, drawn at random.
    seed : int
        Seed of the draw.

    Returns
    -------
    mean, std : tuple of 3 floats
        Over all pixels of the images used; std divides by the number of pixels, not by one less.
    """
    images = dataset.images
    if isinstance(images, LazyImages):
        words = stream(seed, 0, "moments").random_raw(len(images))
        images = images.view(np.argsort(words, kind="stable")[:MAX_MOMENTS_IMAGES])
    N, C, H, W = images.shape
    total, squares, step = [0] * C, [0] * C, max(1, MOMENTS_PIXELS // (H * W))
    for start in range(0, N, step):
        decoded = images[start : start + step]
        for c in range(C):
            pixels = decoded[:, c].astype(np.uint16)
            total[c] += int(pixels.sum(dtype=np.uint64))
            squares[c] += int((pixels * pixels).sum(dtype=np.uint64))
    count = N * H * W
    mean = (t / (255 * count) for t in total)
    std = ((count * s - t**2) ** 0.5 / (255 * count) for t, s in zip(total, squares, strict=True))
    return tuple(mean), tuple(std)


def normaliser(
    mean: Sequence[float], std: Sequence[float], dtype: DTypeLike
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return scale and shift (3, 1, 1), so that image * scale + shift is the normalised image."""
    means, deviations = check_triple("Batches", "mean", mean), check_triple("Batches", "std", std)
    if min(deviations) <= 0 or not np.isfinite(means + deviations).all():
        raise ValueError(
            f"Batches: mean is {mean!r} and std {std!r}, expected finite numbers and std above 0: "
            "pass what moments(dataset) returns, or std (1, 1, 1) where a channel is constant"
        )
    if min(means) < 0 or max(means + deviations) > 1:
        fix = "divide values for images in 0..255 by 255" if max(means + deviations) > 1 else ""
        raise ValueError(
            f"Batches: mean is {mean!r} and std {std!r}, expected mean in 0..1 and std at most 1, "
            f"for images scaled to 0..1: {fix or 'pass what moments(dataset) returns'}"
        )
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise TypeError(f"Batches: dtype is {dtype!r}, expected np.float32 or np.float64")
    scale = 1 / (255 * np.array(deviations)[:, None, None])
    shift = -255 * np.array(means)[:, None, None] * scale
    return scale.astype(dtype), shift.astype(dtype)
