"""README.md and the pages are run: their programs, their commands, and what they claim to print."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tables import with_tables

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "tutorials" / "pages").glob("*.md"))]
LINKED = [*PAGES, ROOT / "minise/bench/README.md", *sorted((ROOT / "tutorials").glob("*.md"))]
LINKED += sorted((ROOT / ".github").glob("*.md"))
LINKED += sorted((ROOT / "tutorials" / "pages" / "models").glob("*.md"))
TEXT = {path.stem: path.read_text() for path in PAGES}
COMMANDS = [
    "python3 -m venv .venv && .venv/bin/pip install -q -e . && .venv/bin/minise quickstart",
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/pytest",
]


def blocks(language, page="README"):
    return re.findall(rf"```{language}\n(.*?)```", TEXT[page], re.DOTALL)


def sequences(*languages):
    """Return (page, texts) for blocks of these languages that follow one another in a page."""
    matches = []
    for page, text in TEXT.items():
        every = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
        for k in range(len(every) - len(languages) + 1):
            run = every[k : k + len(languages)]
            if tuple(language for language, _ in run) == languages:
                matches.append((page, *(body for _, body in run)))
    return matches


PROGRAMS = sequences("python", "text")
FILES = sequences("python", "sh", "text")  # a file by the name in its first line, and a command


@pytest.mark.parametrize(("page", "program", "printed"), PROGRAMS, ids=lambda value: value[:8])
def test_a_program_prints_the_text_below_it(page, program, printed, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == printed.strip()


def test_the_property_test_fails_with_the_program_below_it(tmp_path):
    name = "test_scale"
    (program,) = blocks(rf"python {name}\.py", "checking")
    (printed,) = blocks(rf"text {name}\.py", "checking")
    lines = program[program.index("@settings") :] + program[: program.index("\n\n")]
    assert len(lines.strip().splitlines()) <= 10
    path, repeated = tmp_path / f"{name}.py", tmp_path / "repeated.py"
    path.write_text(program)
    run = f"import {name}\ntry: {name}.{name}()\nexcept AssertionError as error: print(error)"
    done = python("-c", run, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    message = done.stdout.replace(str(tmp_path), "/home/me/my_project")
    assert_same(message, printed)
    report, repeats = done.stdout.split("This program reproduces the failure:")
    repeated.write_text(repeats)
    done = python(repeated, cwd="/")
    assert done.returncode == 1
    assert f"AssertionError: {report.strip()}" in done.stderr
    path.write_text(program.replace("mean", "sum"))
    assert python(repeated, cwd="/").returncode == python("-c", run, cwd=tmp_path).returncode == 0


def python(*arguments, cwd):
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    env = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)


def test_every_program_and_file_is_run():
    for language in ("python", "text"):
        count = sum(len(blocks(language, page)) for page in TEXT)
        assert count == len(PROGRAMS) + len(FILES) > 5


@pytest.mark.parametrize(("page", "text", "command", "printed"), FILES)
def test_a_command_prints_the_text_below_it(page, text, command, printed, tmp_path):
    (tmp_path / text.splitlines()[0].removeprefix("# ")).write_text(text)
    done = python("-m", *command.split(), cwd=tmp_path)
    assert done.returncode == 1
    assert_same(done.stdout + done.stderr, printed)
    assert len([line for line in text.splitlines() if line.strip()]) == 10


def assert_same(printed, shown):
    """Assert that texts are equal but for the last digits of numbers, and for what rounding is."""
    number = r"-?\d+(?:\.\d+)?e[-+]\d+|-?\d+\.\d+"
    assert re.sub(number, "#", printed).strip() == re.sub(number, "#", shown).strip()
    for expected, number_shown in zip(
        *(map(float, re.findall(number, t)) for t in (printed, shown)), strict=True
    ):
        assert expected == pytest.approx(number_shown, rel=1e-6, abs=1e-8)


def test_the_first_program_has_twelve_lines():
    assert len([line for line in PROGRAMS[0][1].splitlines() if line.strip()]) == 12


def test_the_two_commands_stand_first_and_in_ci():
    shell = blocks("sh")[0].strip().splitlines()
    assert shell == COMMANDS
    assert COMMANDS[1] in (ROOT / ".ci" / "run").read_text()
    assert README.index(COMMANDS[0]) < README.index("```python")


def test_the_tables_of_ops_and_verbs_are_complete():
    assert with_tables(TEXT["reference"]) == TEXT["reference"], "run `python -m tests.tables`"


@pytest.mark.parametrize("page", LINKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_linked_files_and_sections_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        file, _, section = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if section:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert section in [re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles]
