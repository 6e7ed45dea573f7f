"""The committed pages about models are those that the nets give, and their commands run."""

import re
from pathlib import Path

import pytest

from minise import models
from minise.analysis import paper
from minise.analysis.pages import FOLDER, families, with_table, written_pages
from minise.analysis.pages.__main__ import main
from minise.analysis.pages.overview import BEGIN, END
from minise.cli.parse import parse
from minise.cli.verbs import function_of

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
COMMAND = "run `python -m minise.analysis.pages .`"


@pytest.mark.slow
def test_the_committed_pages_are_up_to_date():
    pages = written_pages(README)
    for name, text in pages.items():
        assert (ROOT / name).is_file(), COMMAND
        assert (ROOT / name).read_text() == text, f"{name}: {COMMAND}"
    committed = {f"{FOLDER}/models/{path.name}" for path in (ROOT / FOLDER / "models").iterdir()}
    assert committed == {name for name in pages if name.startswith(f"{FOLDER}/models/")}


def test_every_net_is_on_the_page_of_its_file():
    nets = [name for family in families() for name in family.architectures]
    assert sorted([*nets, *(f"se_{name}" for name in nets)]) == sorted(models.names())
    for family in families():
        path = ROOT / FOLDER / "models" / f"{family.file}.md"
        text = path.read_text()
        for name in family.architectures:
            assert len(re.findall(rf"^\| (?:se_)?{name} \|", text, re.MULTILINE)) == 5, name


def test_every_family_has_a_title_and_a_source():
    titles = [family.title for family in families()]
    assert len(set(titles)) == len(titles)
    assert all(len(title) < 60 for title in titles)
    assert all(re.fullmatch(r"\d{4}\.\d{4,5}", family.source) for family in families())


def test_every_table_of_the_paper_is_on_some_page():
    text = "".join(path.read_text() for path in (ROOT / FOLDER / "models").iterdir())
    assert set(re.findall(r"minise reproduce (\w+)", text)) == set(paper.TABLES)


def test_the_commands_of_the_pages_are_understood():
    for path in [ROOT / FOLDER / "models.md", *(ROOT / FOLDER / "models").iterdir()]:
        commands = re.findall(r"^    minise (\w+) ([^#\n]*)", path.read_text(), re.MULTILINE)
        assert commands, path
        for verb, arguments in commands:
            words = arguments.split()
            parse(function_of(verb, words), verb, words)


def test_a_readme_without_the_comments_is_refused():
    with pytest.raises(ValueError, match=r"README.md has 0 tables of models, expected one: write"):
        with_table("a page", [])


def test_the_table_is_replaced_whole():
    text = with_table(f"before\n{BEGIN}\nold\n{END}\nafter\n", [])
    assert text.startswith(f"before\n{BEGIN}\n\n| model |")
    assert text.endswith(f"|\n\n{END}\nafter\n")
    assert "old" not in text
    assert with_table(text, []) == text


def test_the_overview_links_every_page():
    names = [Path(name).name for name in re.findall(r"\(models/(\w+\.md)\)", overview_text())]
    assert set(names) == {f"{family.file}.md" for family in families()}


def overview_text():
    return (ROOT / FOLDER / "models.md").read_text()


@pytest.mark.parametrize("arguments", [[], ["--help"], ["a", "b"]])
def test_usage(arguments, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err == "usage: python -m minise.analysis.pages FOLDER\n"


def test_a_folder_that_is_no_project_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "expected the project's folder, with README.md" in capsys.readouterr().err
