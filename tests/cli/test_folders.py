"""Folders of images at the command line: messages, refused classes, and labels by class name."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from minise.cli.evaluate import table_of_classes
from tests.cli.commands import call

Image = pytest.importorskip("PIL.Image")
COLOURS = {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}
TINY = "train --data photos --model se_resnet8 --epochs 1 --batch-size 8 --val 3 --crop 0 --size 8"
RUN = "runs/se_resnet8-photos-1"


@pytest.fixture(autouse=True)
def _photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    for split, count in (("train", 8), ("test", 4)):
        for name, colour in COLOURS.items():
            path = Path("photos", split, name)
            path.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (9, 9), tuple(c + i for c in colour)).save(path / f"{i}.png")


def one_line(err, status, text):
    assert err.count("\n") == 1
    assert err.startswith("minise: ")
    assert re.search(text, err)
    return status


def rows(out):
    """Return the cells of eval's table: class, number of images, accuracy."""
    return re.findall(r"│ (\w+) +│ (\d+) +│ (\S+%|no images) +│", out)


def test_skipped_files_are_reported_in_one_line(capsys):
    Path("photos/train/red/.x").touch()
    Path("photos/train/red/notes.txt").touch()
    status, out, err = call("data photos --size 8", capsys)
    assert (status, "24 images of 3 x 8 x 8, uint8; 3 classes: blue, green, red" in out) == (
        0,
        True,
    )
    one_line(
        err, 0, r"^minise: photos/train: 2 files or folders are not read: 1 hidden \('red/.x'\);"
    )
    assert call("data photos --split test", capsys)[2] == ""
    assert one_line(call("data photos --split val", capsys)[2], 2, "has no folder val/")


def test_a_test_class_missing_from_train_is_misuse(capsys):
    shutil.copytree("photos/test/red", "photos/test/rose")
    status, _, err = call(TINY, capsys)
    assert one_line(err, status, "test has images of 'rose', expected only the classes") == 2
    assert not Path("runs").exists()


def test_eval_maps_the_folder_to_the_classes_of_the_run(capsys):
    """One class of the run is removed from the folder, and another class is added before it."""
    assert call(TINY, capsys)[0] == 0
    before = rows(call(f"eval {RUN}", capsys)[1])
    assert [row[:2] for row in before] == [("blue", "4"), ("green", "4"), ("red", "4")]
    shutil.rmtree("photos/test/blue")
    shutil.rmtree("photos/train/blue")
    Path("photos/train/amber").mkdir()
    shutil.copy("photos/train/red/0.png", "photos/train/amber")
    status, out, err = call(f"eval {RUN}", capsys)
    assert one_line(err, status, "photos/test has no images of 1 of 3 classes: 'blue'$") == 0
    assert rows(out) == [("blue", "0", "no images"), *before[1:]]
    shutil.copytree("photos/train/amber", "photos/test/amber")
    status, _, err = call(f"eval {RUN}", capsys)
    assert one_line(err, status, "images of 'amber', expected only the classes of the t") == 2


def test_eval_needs_only_the_split_that_it_reads(capsys):
    assert call(TINY, capsys)[0] == 0
    expected = call(f"eval {RUN}", capsys)
    Path("moved").mkdir()
    Path("photos/test").rename("moved/test")
    assert call(f"eval {RUN} --data moved", capsys) == expected
    status, _, err = call(f"eval {RUN}", capsys)
    assert (
        one_line(err, status, "has no folder test/.*; if the data .* its folder with --data") == 2
    )
    Path("moved/test/red").rename("moved/test/Red")
    status, _, err = call(f"eval {RUN} --data moved", capsys)
    assert (
        one_line(err, status, r"images of 'Red', .*\('blue', 'green', 'red'\): did you mean") == 2
    )


def test_predict_takes_the_size_of_the_run(capsys):
    assert call(TINY, capsys)[0] == 0
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save("noise.png")
    shown = call(f"predict {RUN} noise.png", capsys)
    assert shown[0] == 0
    assert call(f"predict {RUN} noise.png --size 8", capsys) == shown
    assert call(f"predict {RUN} noise.png --size 24", capsys) != shown


def test_damaged_files_end_a_run_in_a_line(capsys, monkeypatch):
    """Before the run if the folder is decoded at once; with status 1 if it is decoded on use."""
    assert call(TINY, capsys)[0] == 0
    Path("photos/test/red/1.png").write_text("no image")
    text = "photos/test/red/1.png cannot be read .*: replace or remove it"
    status, _, err = call(TINY, capsys)
    assert one_line(err, status, text) == 2
    assert not Path("runs/se_resnet8-photos-2").exists()
    monkeypatch.setattr("minise.data.folder.IN_MEMORY_BYTES", 0)
    for line in (TINY, f"eval {RUN}"):
        status, _, err = call(line, capsys)
        assert one_line(err, status, text) == 1


def test_eval_shows_names_in_brackets(capsys):
    """They are no markup of rich, the library that prints the table."""
    for split in ("train", "test"):
        Path(f"photos/{split}/green").rename(f"photos/{split}/[bold]green")
    assert call(TINY, capsys)[0] == 0
    assert "│ [bold]green │ 4 " in call(f"eval {RUN}", capsys)[1]


def test_many_classes_are_shortened(capsys):
    for k in range(150):
        path = Path(f"many/train/{k:03}")
        path.mkdir(parents=True)
        Image.new("RGB", (1, 1)).save(path / "0.png")
    status, out, _ = call("data many", capsys)
    assert status == 0
    assert "150 classes: 000, 001, " in out
    assert "099 and 50 more" in " ".join(out.split())


def test_a_folder_without_test_is_tested_on_val(capsys):
    shutil.move("photos/test", "photos/val")
    text = "photos has no folder test/, so the test images are those of .*photos/val$"
    for line in (TINY, f"eval {RUN}"):
        status, out, err = call(line, capsys)
        assert one_line(err, status, text) == 0
    assert [row[:2] for row in rows(out)] == [("blue", "4"), ("green", "4"), ("red", "4")]
    shutil.copytree("photos/val", "photos/test")
    assert call(f"eval {RUN}", capsys) == (0, out, "")


def test_eval_of_resized_crops(capsys):
    assert call(f"{TINY} --resized-crop", capsys)[0] == 0
    status, out, err = call(f"eval {RUN}", capsys)
    assert (status, err) == (0, "")
    assert re.search(r"test accuracy (\S+)%, loss .*\ntop-1 error (\S+)%\n$", out)  # of 3 classes
    status, out, err = call(f"eval {RUN} --crops 10", capsys)
    assert (status, err) == (0, "")
    assert re.search(r"\ntop-1 error \S+% over ten crops\n$", out)


def test_of_many_classes_the_worst_are_shown():
    """Class k has k + 1 images, of which the k // 4 first are correct; 119 has none."""
    names = [f"c{k}" for k in range(120)]
    counts = np.zeros((120, 120), int)
    for k in range(119):
        counts[k, k], counts[k, 119] = k // 4, k + 1 - k // 4
    table = table_of_classes(names, counts)
    assert table.title == "the 30 of 120 classes with the lowest accuracy (1 have no images)"
    labels, images, correct, rivals = (list(column.cells) for column in table.columns)
    order = sorted(range(119), key=lambda k: (k // 4 / (k + 1), -k))[:30]
    assert labels == [names[k] for k in order]
    assert images == [str(k + 1) for k in order]
    assert correct[:4] == ["0.0%"] * 4
    assert rivals[0] == "c119 (4)"
    counts[5:] = 0
    few = table_of_classes(names, counts)
    assert few.title == "the 5 of 120 classes with the lowest accuracy (115 have no images)"
    assert few.row_count == 5
    complete = table_of_classes(names[:100], counts[:100, :100])
    assert (complete.title, complete.row_count) == (None, 100)
