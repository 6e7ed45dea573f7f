"""Every picture: its text is legible and inside, its SVG whole, its committed copy up to date."""

import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from minise import pictures
from minise.pictures import PICTURES
from minise.pictures.__main__ import main
from minise.pictures.svg import ROLES, TEXT, WIDTH, Canvas, colours
from tests.pictures.layout import SVG, boxes, grounds

COPIES = Path(__file__).parents[2] / "tutorials" / "pictures"
PHONE = 360  # px, the width of its screen
every_picture = pytest.mark.parametrize("name", PICTURES)


def drawn(name):
    return PICTURES[name]().svg


def faults(svg):
    """Return what is wrong with the texts of a picture."""
    _, _, right, bottom = map(float, ElementTree.fromstring(svg).get("viewBox").split())
    texts = boxes(svg)
    return [
        *(f"{b.text!r} leaves" for b in texts if min(b.left, b.top) < 0 or b.right > right),
        *(f"{b.text!r} leaves" for b in texts if b.bottom > bottom),
        *(f"{b.text!r} is small" for b in texts if b.size * PHONE / right < 12),
        *(
            f"{a.text!r} and {b.text!r} overlap"
            for a, b in itertools.combinations(texts, 2)
            if a.overlaps(b)
        ),
    ]


@every_picture
def test_texts_are_large_inside_and_apart(name):
    svg = drawn(name)
    assert len(boxes(svg)) > 5
    assert faults(svg) == []


def test_the_check_of_texts_bites():
    def svg(*texts):
        canvas = Canvas(40)
        for text in texts:
            canvas.text(*text[:3], size=text[3] if len(text) == 4 else TEXT)
        return canvas.picture("title", "description").svg

    assert faults(svg((5, 20, "left"), (100, 20, "right"))) == []
    assert faults(svg((5, 20, "left"), (20, 24, "right"))) == ["'left' and 'right' overlap"]
    for leaving in ((450, 20, "right"), (-2, 20, "left"), (5, 8, "top"), (5, 39, "bottom")):
        assert faults(svg(leaving)) == [f"{leaving[2]!r} leaves"]
    assert faults(svg((5, 20, "small", 15))) == ["'small' is small"]


@every_picture
def test_says_what_it_shows(name):
    picture = PICTURES[name]()
    root = ElementTree.fromstring(picture.svg)
    first, second = root[:2]
    assert (first.tag, first.text) == (f"{SVG}title", picture.title)
    assert (second.tag, second.text) == (f"{SVG}desc", picture.description)
    assert root.get("role") == "img"
    assert len(picture.description) > 100
    assert picture.svg in picture._repr_html_()


@every_picture
def test_stands_beside_others(name):
    svg = drawn(name)
    root = ElementTree.fromstring(svg)
    assert [e.tag for e in root.iter() if "id" in e.attrib] == []  # so none is there twice
    assert "url(" not in svg  # needs nothing from outside
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    rules = root.find(f"{SVG}style").text
    selectors = re.findall(r"(?:^|[{}])([^{}@]+)\{", rules)
    assert all(".mp" in selector for selector in selectors)  # no other element of the page
    classes = {c for e in root.iter() for c in e.get("class", "").split()}
    assert all(c == "mp" or f".{c}{{" in rules for c in classes)


@every_picture
def test_is_the_same_each_time_and_as_committed(name):
    assert drawn(name) == drawn(name)
    copy = COPIES / f"{name}.svg"
    assert copy.read_text(encoding="utf-8") == drawn(name), (
        "run: python -m minise.pictures tutorials/pictures"
    )


def test_each_copy_and_each_public_name_is_of_a_picture():
    assert set(pictures.__all__) == {"PICTURES", "Picture", "picture_of", *PICTURES}
    assert all(getattr(pictures, name) is draw for name, draw in PICTURES.items())
    assert {path.stem for path in COPIES.iterdir()} == set(PICTURES)


def contrast(one_colour, other):
    """Return the ratio of the luminances of two colours, each red, green and blue, 0..1."""

    def luminance(colour):
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, (one_colour, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@every_picture
def test_contrast(name, theme):
    table = {
        role: [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        for role, colour in colours()[theme].items()
    }
    low = []
    for text, role, layers in grounds(drawn(name)):
        ground = table["paper"]
        for fill, opacity in layers:
            ground = [
                opacity * f + (1 - opacity) * g for f, g in zip(table[fill], ground, strict=True)
            ]
        if (ratio := contrast(table[role], ground)) < 4.5:
            low.append(f"{text}: {ratio:.2f}")
    assert low == []


def test_the_check_of_contrast_bites():
    canvas = Canvas(40)
    canvas.box(0, 0, 100, 40, "forward", opacity=0.4)
    canvas.text(10, 20, [("a", "soft"), ("b", "")], "ink")
    canvas.text(110, 20, "c", "soft")
    layers = [("forward", 0.4)]
    svg = canvas.picture("title", "description").svg
    assert grounds(svg) == [("a", "soft", layers), ("b", "ink", layers), ("c", "soft", [])]
    assert contrast((1, 1, 1), (0, 0, 0)) == pytest.approx(21)


def test_an_unknown_colour_is_refused():
    with pytest.raises(ValueError, match="pictures: role is 'red', expected one of ink, soft"):
        Canvas(10).box(0, 0, 1, 1, "red")


def test_colours_are_those_of_the_pages():
    assert set(colours()["light"]) == set(ROLES) == set(colours()["dark"])
    assert colours()["light"]["paper"] == "#ffffff" != colours()["dark"]["paper"]
    assert WIDTH * 12 / TEXT <= PHONE


def test_command_line(tmp_path, capsys):
    assert main([str(tmp_path / "new")]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {f"{n}.svg" for n in PICTURES}
    for arguments in ([], ["--help"], ["a", "b"]):
        assert main(arguments) == 2
        assert capsys.readouterr().err == "usage: python -m minise.pictures FOLDER\n"
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "file")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("pictures: FOLDER is ")
    assert error.endswith("/file', expected a folder to write into: File exists\n")
