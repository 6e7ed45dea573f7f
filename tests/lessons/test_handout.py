"""The handout and its answer key are what the op computes, and what the sheet says by hand."""

from pathlib import Path

import numpy as np
import pytest

from minise.lessons import handout as sheet

PAGES = Path(__file__).parents[2] / "tutorials" / "pages"


@pytest.mark.parametrize(("name", "page"), [("handout", sheet.handout), ("answers", sheet.answers)])
def test_the_committed_page_is_the_computed_one(name, page):
    says = "run python -m minise.lessons.handout tutorials/pages"
    assert (PAGES / f"{name}.md").read_text() == page(), says


def test_the_sheet_by_hand():
    by_hand = dict(z=[2, 4], u=2 * 2 - 4 + 2, h=2, v=[2 - 2, -4 + 4], s=[0.5, 0.5])
    by_hand |= dict(ds=[4 * 1, 2 * 6], dv=[4 / 4, 12 / 4], dw2=[1 * 2, 3 * 2], db2=[1, 3])
    by_hand |= dict(dh=1 * 1 - 2 * 3, du=-5, dw1=[-5 * 2, -5 * 4], db1=-5, dz=[-5 * 2, -5 * -1])
    by_hand |= dict(dx_scale=[[2, 0], [0, 1]], dx_gate=[-10 / 2, 5 / 2])
    by_hand |= dict(dx=[[2 - 5, -5], [2.5, 1 + 2.5]], out=[[0.5, 1.5], [1, 3]])
    values = sheet.recorded()
    names = [row.name for row in (*sheet.FORWARD, *sheet.BACKWARD)]
    assert set(by_hand) == set(names)
    for name in names:
        value = np.broadcast_to(np.squeeze(values[name]), np.shape(by_hand[name]))
        np.testing.assert_array_equal(value, by_hand[name], err_msg=name)


def test_the_sheet_has_a_blank_for_each_number_and_no_answer():
    blanks, numbers = (
        [line.rpartition(" | ")[2] for line in page.splitlines() if line.count(" | ") == 2]
        for page in (sheet.handout(), sheet.answers())
    )
    assert len(blanks) == len(numbers) == len(sheet.FORWARD) + len(sheet.BACKWARD) + 2
    for blank, number in zip(blanks, numbers, strict=True):
        if blank != number:  # the heads of both tables are equal
            assert blank.count(sheet.BLANK) == number.count(",") + 1
            assert not any(letter.isdigit() for letter in blank)
