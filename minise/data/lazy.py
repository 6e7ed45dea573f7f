"""Images that are decoded when they are indexed, for data sets larger than memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minise.checks import Pair, check_integer
from minise.data.crops import ChooseBox, central_box
from minise.data.pictures import part_of

# Size of the cache of decoded images: 65,536 images of 32 x 32, or 1,337 of 224 x 224.
CACHE_BYTES = 192 * 2**20


class Cache(NamedTuple):
    """Decoded images: the first K images of the source."""

    pixels: NDArray[np.uint8]  # (K, 3, H, W); pages without decoded images take no memory
    decoded: NDArray[np.bool_]  # (K,)


class LazyImages:
    """An array of images of shape (N, 3, H, W), uint8, that are decoded when they are indexed.

    Parameters
    ----------
    read : callable
        read(i) returns image i, an ndarray of shape (3, H, W), uint8. Several threads may call it.
        An attribute `fingerprint` describes the images for data.fingerprint: a text, which differs
        if an image differs, or a function of indices (n,) that returns one for these images. An
        attribute `part`, a function of (i, choose, size, reduced), returns a part of image i in its
        full resolution (see the method `part`).
    count : int
        N, the number of images.
    height, width : int
        H and W.
    cache_bytes : int
        Size of the cache of decoded images, which keeps the first images of the source.

    Notes
    -----
    Indexing returns an ndarray, as it would for an ndarray of all images: ``images[3]``,
    ``images[2:9]``, ``images[[5, 1]]``, ``images[mask]``, ``images[:9, 0]``. ``np.asarray(images)``
    decodes all images. ``images.view(indices)`` selects images and decodes none.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        read: Callable[[int], NDArray[np.uint8]],
        count: int,
        height: int,
        width: int,
        *,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        for name, value in dict(count=count, height=height, width=width).items():
            check_integer("LazyImages", name, value, 1)
        check_integer("LazyImages", "cache_bytes", cache_bytes, 0)
        self._read = read
        self._rows: NDArray[np.int64] = np.arange(count)
        self._image_shape = (3, height, width)
        capacity = min(count, cache_bytes // (3 * height * width))
        pixels = np.empty((capacity, *self._image_shape), np.uint8)
        self._cache = Cache(pixels, np.zeros(capacity, np.bool_))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape (N, 3, H, W) of all images."""
        return (len(self._rows), *self._image_shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes of all images, decoded."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<LazyImages of shape {self.shape}, uint8>"

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> NDArray[Any]:
        first, *rest = key if isinstance(key, tuple) and key else (key,)
        simple = all(isinstance(part, slice | int | np.integer) for part in rest)
        if first is Ellipsis or isinstance(first, tuple) or not simple:  # decode all images
            return np.asarray(self)[key]
        rows = np.asarray(self._rows[first])
        images = self._decoded(rows.ravel()).reshape(rows.shape + self._image_shape)
        return images[(slice(None),) * rows.ndim + tuple(rest)] if rest else images

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("LazyImages: copy is False, expected None or True: decoding copies")
        images = self._decoded(self._rows)
        return images if dtype is None else images.astype(dtype, copy=False)

    def view(self, which: slice | NDArray[Any]) -> Self:
        """Return the images that a slice, indices or a mask selects, without decoding them.

        Parameters
        ----------
        which : slice, or ndarray of int or bool
            The images, as for an index of the first axis.

        Returns
        -------
        LazyImages
            A view that shares the cache of decoded images.
        """
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__, _rows=self._rows[which])
        return view

    def part(
        self, k: int, choose: ChooseBox, size: Pair | None = None, *, reduced: bool = False
    ) -> NDArray[np.uint8]:
        """Return a part of image k, scaled.

        Parameters
        ----------
        k : int
            Index of the image.
        choose : callable
            choose(height, width) returns the part, a data.crops.Box.
        size : pair of int, optional
            Rows and columns of the result; by default (H, W).
        reduced : bool
            Whether large JPEG files may be decoded smaller, approximately (pictures.read_part).

        Returns
        -------
        ndarray of shape (3, rows, columns), uint8
            The part of the whole image in the file or, if `read` has no attribute `part`, of the
            image that it returns.
        """
        size = self.shape[2:] if size is None else size
        if hasattr(self._read, "part"):
            return self._read.part(int(self._rows[k]), choose, size, reduced)
        return part_of(self[k], choose(*self.shape[2:]), size)

    def resized(self, height: int, width: int) -> "LazyImages":
        """Return the same images at another size, read again.

        Each image is the central part of the file, or of the image that `read` returns, with the
        proportions height : width.
        """
        return LazyImages(_Resized(self, (height, width)), len(self), height, width)

    def identity(self) -> Iterator[bytes]:
        """Yield bytes that differ if the images differ, as far as `read` tells, without decoding.

        They are what the function `read.fingerprint` returns for the indices, or else the indices
        and the text `read.fingerprint`, "" without one.
        """
        text = getattr(self._read, "fingerprint", "")
        if callable(text):
            yield str(text(self._rows)).encode("utf-8", "surrogateescape")
        else:
            yield self._rows.astype("<i8").tobytes()
            yield str(text).encode("utf-8", "surrogateescape")

    def _decoded(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        images = np.empty((len(rows), *self._image_shape), np.uint8)
        pixels, decoded = self._cache
        cacheable = rows < len(decoded)
        hits = cacheable.copy()
        hits[cacheable] = decoded[rows[cacheable]]
        images[hits] = pixels[rows[hits]]
        for k in np.flatnonzero(~hits):
            image = self._read(int(rows[k]))
            if image.shape != self._image_shape or image.dtype != np.uint8:
                raise ValueError(
                    f"LazyImages: read({rows[k]}) returns {image.dtype} of shape {image.shape}, "
                    f"expected uint8 of shape {self._image_shape}: convert the image in read"
                )
            images[k] = image
            if cacheable[k]:
                pixels[rows[k]] = image
                decoded[rows[k]] = True  # set last: other threads may read the pixels from here on
        return images


@dataclass(frozen=True)
class _Resized:
    """A function that reads images at another size."""

    images: LazyImages
    size: Pair

    def __call__(self, i: int) -> NDArray[np.uint8]:
        """Return the central part of image i."""
        rows, columns = self.size
        choose = partial(central_box, rows=rows, columns=columns)
        return self.images.part(i, choose, self.size)

    def part(self, i: int, choose: ChooseBox, size: Pair, reduced: bool) -> NDArray[np.uint8]:
        """Return a part of image i."""
        return self.images.part(i, choose, size, reduced=reduced)

    def fingerprint(self, rows: NDArray[np.int64]) -> str:
        """Return what the images' function says about the images with these indices."""
        identity = b"".join(self.images.view(rows).identity())
        return identity.decode("utf-8", "surrogateescape")
