"""Listing a folder: its images, their classes, and the report on skipped files."""

import os
from pathlib import Path

import pytest

from minise.data.listing import list_images


def files(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def listed(root, known=()):
    """Return {path below root: class} in order, and the text about skipped files."""
    listing = list_images("load", root, known)
    names = [listing.classes[label] for label in listing.labels]
    paths = [str(Path(path).relative_to(root)) for path in listing.paths]
    return dict(zip(paths, names, strict=True)), listing.skipped_text()


def test_sorted_by_class_then_by_path(tmp_path):
    names = ("zebra/b.png", "zebra/a.PNG", "ant/10.bmp", "ant/9.jpeg", "ant/x/1.gif")
    classes_of, skipped = listed(files(tmp_path, *names))
    assert list(classes_of) == [
        "ant/10.bmp",
        "ant/9.jpeg",
        "ant/x/1.gif",
        "zebra/a.PNG",
        "zebra/b.png",
    ]
    assert skipped == ""


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (
            ("cat/1.png", "cat/wild/2.png", "cat/wild/deep/3.png", "dog/1.png"),
            ("cat", "cat", "cat", "dog"),
        ),
        (("a/airfield/1.png", "a/attic/1.png", "b/bar/1.png"), ("a/airfield", "a/attic", "b/bar")),
        (("a/field/wild/1.png", "a/field/2.png", "b/2.png"), ("a/field", "a/field", "b")),
        (("a/b/c/1.png", "a/b/d/1.png"), ("a/b/c", "a/b/d")),
        (("a/1.png", "a b/1.png"), ("a", "a b")),
        (("a/1.png", "A/1.png", "a /1.png"), ("A", "a", "a ")),
    ],
    ids=["nested", "Places365", "shallowest", "deep", "a space", "case and a space"],
)
def test_the_class_is_the_shallowest_folder_with_images(tmp_path, names, classes):
    classes_of, _ = listed(files(tmp_path, *names))
    assert sorted(classes_of.values()) == sorted(classes)


def test_a_known_class_needs_no_images_of_its_own(tmp_path):
    files(tmp_path, "cat/wild/1.png", "dog/1.png", "a/airfield/1.png")
    classes_of, _ = listed(tmp_path, ("cat", "dog", "a/airfield"))
    assert classes_of == {
        "cat/wild/1.png": "cat",
        "dog/1.png": "dog",
        "a/airfield/1.png": "a/airfield",
    }
    assert set(listed(tmp_path)[0].values()) == {"cat/wild", "dog", "a/airfield"}


def test_skipped_files_are_counted_by_reason(tmp_path):
    names = (".cache/x.png", "ant/.x.png", "ant/.DS_Store", "ant/notes.txt", "README", "top.png")
    files(tmp_path, "ant/1.png", "bee/1.png", *names)
    (tmp_path / "ant" / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "ant" / "self.png").symlink_to("self.png")
    os.mkfifo(tmp_path / "ant" / "pipe.png")
    (tmp_path / "ant" / "up").symlink_to(tmp_path)
    classes_of, skipped = listed(tmp_path)
    assert list(classes_of) == ["ant/1.png", "bee/1.png"]
    assert skipped == (
        f"{tmp_path}: 10 files or folders are not read: 3 hidden ('.cache', …); "
        "2 without the suffix of an image ('README', …); 3 not readable ('ant/gone.png', …); "
        "1 links back to a folder above ('ant/up'); 1 outside of the class folders ('top.png')"
    )


def test_files_without_permission_are_reported(tmp_path, monkeypatch):
    files(tmp_path, "ant/1.png", "ant/2.png", "bee/1.png", "cow/1.png")
    closed = {str(tmp_path / "ant" / "2.png"), str(tmp_path / "cow")}
    monkeypatch.setattr(os, "access", lambda path, mode: path not in closed)
    classes_of, skipped = listed(tmp_path)
    assert list(classes_of) == ["ant/1.png", "bee/1.png"]
    assert "2 files or folders are not read: 2 not readable ('ant/2.png', …)" in skipped


def test_links_to_folders_elsewhere_are_followed(tmp_path):
    files(tmp_path, "store/1.png", "data/bee/1.png")
    (tmp_path / "data" / "ant").symlink_to(tmp_path / "store")
    assert listed(tmp_path / "data")[0] == {"ant/1.png": "ant", "bee/1.png": "bee"}


def test_names_are_in_normal_form_c(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    files(tmp_path, f"{decomposed}/1.png", "ant/1.png")
    assert list_images("load", tmp_path).classes == ("ant", composed)
    files(tmp_path, f"{composed}/1.png")
    with pytest.raises(ValueError, match=f"two folders with the name '{composed}', .*: merge them"):
        list_images("load", tmp_path)


@pytest.mark.parametrize(
    ("names", "folder", "message"),
    [
        (("ant/1.png",), "nowhere", "root is .*nowhere, expected a folder with a sub-folder for"),
        (
            ("1.png", "2.png"),
            "",
            "has 0 sub-folders with images and images outside of them \\('1.p",
        ),
        (("ant/1.png",), "", "has 1 sub-folder with images, expected at least 2, one per class"),
        (("ant/1.png", "bee/x"), "", r"bee has no images, expected at least one \(\.png"),
        (("ant/1.png", "a/b/.x", "bee/1.png"), "", "a has no images, expected at least one"),
        (
            ("train/a/1.png", "test/a/1.png"),
            "",
            r"has the folders test and train, .*: pass .*train",
        ),
        (("train/a/1.png", "val/a/1.png"), "", r"or data.load\('.*'\) for a data set with splits"),
    ],
)
def test_messages(tmp_path, names, folder, message):
    files(tmp_path, *names)
    with pytest.raises((ValueError, FileNotFoundError), match=f"^load: .*{message}"):
        list_images("load", tmp_path / folder)


def test_an_empty_folder_of_another_split_is_no_error(tmp_path):
    files(tmp_path, "ant/1.png", "bee/x.txt", "wasp/x.txt")
    classes_of, skipped = listed(tmp_path, ("ant", "bee"))
    assert set(classes_of.values()) == {"ant"}
    assert skipped.endswith("1 without images ('wasp')")
    with pytest.raises(ValueError, match="has 0 sub-folders with images, expected at least 1"):
        list_images("load", tmp_path / "bee", ("ant", "bee"))
