"""List the image files of a folder with their classes, without reading them."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self, TypeAlias
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from minise.checks import as_absolute

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SPLITS = ("train", "test", "val")
HIDDEN, OTHER = "hidden", "without the suffix of an image"
UNREADABLE, LOOP = "not readable", "links back to a folder above"
OUTSIDE, EMPTY = "outside of the class folders", "without images"


Skipped: TypeAlias = dict[str, list[str]]  # paths below the root, by reason


class Listing(NamedTuple):
    """Image files sorted by class, then by path."""

    root: Path
    paths: list[str]  # absolute, so that images can be decoded in any working folder
    labels: NDArray[np.int64]  # (N,)
    classes: tuple[str, ...]
    skipped: Skipped  # files and folders that are not read

    def take(self, which: NDArray[np.int64] | slice) -> Self:
        """Return the listing of the files that indices or a slice select."""
        numbers = np.arange(len(self.paths))[which]
        return self._replace(paths=[self.paths[k] for k in numbers], labels=self.labels[which])

    def skipped_text(self) -> str:
        """Return a line about the skipped files and folders, or "" if there are none."""
        count = sum(map(len, self.skipped.values()))
        kinds = (
            f"{len(names)} {reason} ({names[0]!r}{', …' if len(names) > 1 else ''})"
            for reason, names in self.skipped.items()
        )
        noun = "file or folder is" if count == 1 else "files or folders are"
        return f"{self.root}: {count} {noun} not read: {'; '.join(kinds)}" if count else ""


class _Folder(NamedTuple):
    path: str
    name: str  # below the root, with / between folders
    images: list[str]  # names of files
    folders: list["_Folder"]

    def is_empty(self) -> bool:
        return not self.images and all(folder.is_empty() for folder in self.folders)


def list_images(where: str, root: Path, known: Sequence[str] = ()) -> Listing:
    """List the images below root.

    Classes are as in `image_folder`, and a folder that is one of the `known` classes is a class
    even if it has no images itself. The name of a class is the folder's path below root, in Unicode
    normal form C.

    Raises
    ------
    FileNotFoundError
        If root is not a folder.
    ValueError
        If root has no class (without `known`, fewer than two), or a class has no images.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"{where}: root is {root}, expected a folder with a sub-folder for each class"
        )
    skipped: Skipped = defaultdict(list)
    tree = _scan(str(as_absolute(root)), "", frozenset(), skipped)
    skipped[OUTSIDE].extend(tree.images)
    names_of_known = frozenset(normalize("NFC", name) for name in known)
    by_class: dict[str, list[str]] = {}
    origin: dict[str, str] = {}
    empty: list[_Folder] = []
    for folder in tree.folders:
        for owner, images in _class_folders(folder, names_of_known, empty):
            name = normalize("NFC", owner.name)
            if origin.setdefault(name, owner.path) != owner.path:
                raise ValueError(
                    f"{where}: {root} has two folders with the name {name!r}, which differ only "
                    "in Unicode normalisation, expected one: merge them"
                )
            by_class[name] = images
    _check_classes(where, root, tree, by_class, empty, known)
    expected = tuple(f"{name}/" for name in names_of_known)
    skipped[EMPTY].extend(
        folder.name
        for folder in empty
        if not any(name.startswith(f"{normalize('NFC', folder.name)}/") for name in expected)
    )
    names = sorted(by_class)
    counts = [len(by_class[name]) for name in names]
    paths = [path for name in names for path in by_class[name]]
    reasons = {reason: files for reason, files in skipped.items() if files}
    return Listing(root, paths, np.repeat(np.arange(len(names)), counts), tuple(names), reasons)


def _scan(path: str, name: str, ancestors: frozenset[tuple[int, int]], skipped: Skipped) -> _Folder:
    """Return the tree below a folder; follow links, but not to a folder above."""
    status = os.stat(path)
    ancestors |= {(status.st_dev, status.st_ino)}
    result = _Folder(path, name, [], [])
    with os.scandir(path) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        below = f"{name}/{entry.name}" if name else entry.name
        if entry.name.startswith("."):
            skipped[HIDDEN].append(below)
        elif _is_folder(entry):
            target = entry.stat()
            if (target.st_dev, target.st_ino) in ancestors:
                skipped[LOOP].append(below)
            elif not os.access(entry.path, os.R_OK | os.X_OK):
                skipped[UNREADABLE].append(below)
            else:
                result.folders.append(_scan(entry.path, below, ancestors, skipped))
        elif not entry.name.lower().endswith(SUFFIXES):
            skipped[OTHER].append(below)
        elif _is_file(entry) and os.access(entry.path, os.R_OK):
            result.images.append(entry.name)
        else:  # a broken link, a pipe or a device
            skipped[UNREADABLE].append(below)
    return result


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _class_folders(
    folder: _Folder, known: frozenset[str], empty: list[_Folder]
) -> Iterator[tuple[_Folder, list[str]]]:
    """Yield the class folders at or below a folder with the paths of their images."""
    if folder.is_empty():
        empty.append(folder)
    elif folder.images or normalize("NFC", folder.name) in known:
        yield folder, _paths(folder)
    else:
        for inner in folder.folders:
            yield from _class_folders(inner, known, empty)


def _paths(folder: _Folder) -> list[str]:
    paths = [f"{folder.path}/{name}" for name in folder.images]
    for inner in folder.folders:
        paths += _paths(inner)
    return paths


def _check_classes(
    where: str,
    root: Path,
    tree: _Folder,
    by_class: dict[str, list[str]],
    empty: list[_Folder],
    known: Sequence[str],
) -> None:
    tops = {folder.name for folder in tree.folders if not folder.images}
    if len(tops & set(SPLITS)) > 1:
        raise ValueError(
            f"{where}: {root} has the folders {' and '.join(sorted(tops & set(SPLITS)))}, expected "
            f"a folder for each class: pass {root / 'train'}, or data.load({str(root)!r}) for a "
            "data set with splits"
        )
    if empty and not known:
        raise ValueError(
            f"{where}: {empty[0].path} has no images, expected at least one "
            f"({' '.join(SUFFIXES)}): add some, or remove the folder"
        )
    least = 1 if known else 2
    if len(by_class) < least:
        folders = f"{len(by_class)} sub-folder{'s' * (len(by_class) != 1)} with images"
        outside = f" and images outside of them ({tree.images[0]!r})" if tree.images else ""
        raise ValueError(
            f"{where}: {root} has {folders}{outside}, expected at least {least}, one per class: "
            "pass the folder that contains the classes"
        )
