"""A build refuses bad input with one line, replaces a site only when it is whole, and repeats."""

import sys
from pathlib import Path

import pytest

from minise.site import build as module
from minise.site.build import MARKER, build, check
from minise.site.checkout import BrokenSite, Checkout
from minise.site.parts import Part
from tests.cli.commands import call
from tests.site.conftest import REPOSITORY

NEEDED = ("marimo", "matplotlib", "latex2mathml", "nbformat", "pdoc")


@pytest.fixture
def files(monkeypatch):
    """Let the packages be there, and the site be one page, which a test may change."""
    files = {"index.html": "<h1>new</h1>", MARKER: ""}
    monkeypatch.setattr(module, "MODULES", set())
    monkeypatch.setattr(module, "_site", lambda *_: Part(files=files, titles={"index.html": "new"}))
    return files


def refused(line, capsys):
    status, out, err = call(line, capsys)
    assert (status, out) == (2, "")
    assert err.startswith("minise: site: ")
    assert err.count("\n") == 1
    return err


def test_a_file_is_no_folder(tmp_path, capsys):
    (tmp_path / "taken").write_text("mine")
    assert "is a file, expected a folder" in refused(f"site build {tmp_path / 'taken'}", capsys)
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path, monkeypatch, capsys):
    (tmp_path / "taken").write_text("mine")
    err = refused(f"site build {tmp_path / 'taken' / 'a' / 'b'}", capsys)
    assert f"cannot be made in {tmp_path / 'taken'}, expected a folder that can be written" in err
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    assert f"cannot be made in {tmp_path}, expected" in refused(
        f"site build {tmp_path / 'a'}", capsys
    )


def test_a_folder_with_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("mine")
    err = refused(f"site build {tmp_path}", capsys)
    assert "is not empty and holds no earlier site, expected a new or an empty folder" in err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_package_is_named_with_the_command_that_installs_it(name, tmp_path, monkeypatch):
    find = module.importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda asked, *rest: None if asked == name else find("numpy")
    )
    with pytest.raises(ValueError, match=rf"site: {name} cannot be imported.*'\.\[site\]'"):
        check(tmp_path / "new")
    if name == "pdoc":
        check(tmp_path / "new", api=False)


def test_without_a_checkout(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="has no tutorials, expected a checkout of the project"):
        Checkout(tmp_path)


def test_a_repository_has_an_owner_and_a_name(tmp_path, capsys):
    err = refused(f"site build {tmp_path / 'new'} --repository minise", capsys)
    assert "repository is 'minise', expected OWNER/NAME" in err


def test_build_is_the_only_action(tmp_path, capsys):
    status, _, err = call(f"site serve {tmp_path}", capsys)
    assert status == 2
    assert "serve" in err


def test_an_earlier_site_is_replaced_whole(tmp_path, files):
    folder = tmp_path / "site"
    files["old.html"] = "of the earlier site"
    assert build(folder).pages == 1
    del files["old.html"]
    files["index.html"] = "<h1>newer</h1>"
    build(folder)
    assert sorted(path.name for path in folder.iterdir()) == [MARKER, "index.html"]
    assert "newer" in (folder / "index.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.mark.parametrize("name", ["thesis.tex", "walks/CNAME", ".git/config"])
def test_a_file_that_no_build_has_written_is_not_deleted(name, tmp_path, files, capsys):
    folder = tmp_path / "site"
    build(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    assert f"has {name}, which no build has written" in refused(f"site build {folder}", capsys)
    assert (folder / name).read_text() == "mine"


def test_an_empty_folder_and_a_link_to_a_folder_are_filled(tmp_path, files):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    build(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "empty" / "index.html").is_file()


def test_a_build_that_fails_loses_nothing(tmp_path, files, monkeypatch):
    folder = tmp_path / "site"
    build(folder)
    files["index.html"] = "<h1>newer</h1>"
    files["a/page.html"] = "cannot be written"
    write = Path.write_text

    def full(path, *rest, **options):
        if path.name == "page.html":
            raise OSError(28, "No space left on device", str(path))
        return write(path, *rest, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="free some space"):
        build(folder)
    assert (folder / "index.html").read_text() == "<h1>new</h1>"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_site_that_is_too_large_is_not_written(tmp_path, files, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 3)
    with pytest.raises(BrokenSite, match="bytes, expected at most 3"):
        build(tmp_path / "site")
    assert list(tmp_path.iterdir()) == []


def test_the_command_reports_the_result_and_a_broken_text(tmp_path, files, monkeypatch, capsys):
    status, out, _ = call(f"site build {tmp_path / 'site'}", capsys)
    assert status == 0
    assert "1 pages, 0.0 MB" in " ".join(out.split())
    monkeypatch.setattr(module, "MAX_BYTES", 3)
    status, _, err = call(f"site build {tmp_path / 'site'}", capsys)
    assert status == 1
    assert err.startswith("minise: site: it has")
    assert err.count("\n") == 1


def test_sets_have_one_order_in_every_build(monkeypatch):
    """The API reference prints the default values of arguments, some of which are sets."""
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    with module._processes() as pool:
        first = pool.submit(hash, "a set's member").result()
    monkeypatch.delenv("PYTHONHASHSEED")
    with module._processes() as pool:
        assert pool.submit(hash, "a set's member").result() == first
    assert "PYTHONHASHSEED" not in module.os.environ


@pytest.mark.slow
def test_a_second_build_gives_the_same_bytes(site):
    """Of a lesson with its walks, an op's walk and a notebook, made in another process."""
    from minise.site import parts

    name = "tutorials/06_squeeze_and_excitation.py"
    (around,) = [around for asked, around in module._in_order(Checkout()) if asked == name]
    made = [parts.lesson(name, around), parts.walk(0), module.notebook_of(name, REPOSITORY)]
    for part in made:
        for address, text in part.files.items():
            assert (site / address).read_text() == text, address
    assert sys.modules["marimo"]
