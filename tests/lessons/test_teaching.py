"""What the pages for teachers and the syllabus count and name is there."""

import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "tutorials"
LESSONS = {path.stem: path.read_text() for path in sorted(FOLDER.glob("[0-9]*.py"))}
TEACHING = (FOLDER / "pages" / "teaching.md").read_text()
README = (FOLDER / "README.md").read_text()


def test_the_minutes_of_the_hour_add_up():
    minutes = [int(text) for text in re.findall(r"^\| (\d+) \|", TEACHING, re.MULTILINE)]
    assert sum(minutes) == 60


def test_the_parts_of_lessons_that_the_route_names_exist():
    for number, heading in re.findall(r"Lesson (\d), (?:the table )?\"([^\"]+)\"", TEACHING):
        (text,) = (text for stem, text in LESSONS.items() if stem.startswith(f"0{number}"))
        assert f"## {heading}" in text


def test_the_rows_that_the_route_names_are_on_the_handout():
    handout = (FOLDER / "pages" / "handout.md").read_text()
    for name in re.findall(r"\b(d[a-z]\w*|z)\b is ", TEACHING):
        assert f"| {name} |" in handout


def test_the_syllabus_counts_what_the_lessons_have():
    text = "".join(LESSONS.values())
    blanks = sum(
        len(re.findall(r"^ +\S.* \+?= \.\.\.$", source, re.MULTILINE))
        for source in LESSONS.values()
    )
    counts = {
        "lessons": len(LESSONS),
        "blanks": blanks,
        "questions": len(re.findall(r"\bQuestion\(", text)),
        "tasks": len(re.findall(r"^ +task = Task\($", text, re.MULTILINE)),
    }
    for noun, count in counts.items():
        assert f"{count} {noun}" in README, (noun, count)
