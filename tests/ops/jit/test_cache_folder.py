"""Kernels work without a cache folder, and one warning reports it."""

import errno
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import minise
from minise.ops.jit.compiler import cache_folder
from minise.ops.jit.compiler.cache_folder import KernelCacheWarning, folder, probe, problem
from tests.cli.commands import call

PROGRAM = """
import shutil
import numpy as np
from minise.ops import jit
from minise.ops.jit.compiler.cache_folder import folder

for dtype in np.float32, np.float64:
    out, _ = jit.relu_forward(np.arange(-3, 4, dtype=dtype))
    assert out.tolist() == [0, 0, 0, 0, 1, 2, 3]
    if DELETE:
        files = len(list(folder().glob("*")))
        shutil.rmtree(folder().parents[1])
if DELETE:
    assert files == 1, files
"""
NO_HOME = """
import os, pwd

def getpwuid(uid):
    raise KeyError(uid)

pwd.getpwuid = getpwuid
for name in ("HOME", "XDG_CACHE_HOME", "MINISE_CACHE"):
    os.environ.pop(name, None)
"""
FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
"""


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="nothing is compiled")
@pytest.mark.skipif(os.name != "posix", reason="limits of file sizes and home folders of POSIX")
@pytest.mark.parametrize(
    ("before", "cache", "warning"),
    [
        ("", "file", "written (Not a directory)"),
        pytest.param(NO_HOME, "", "this user has no home folder", marks=pytest.mark.slow),
        pytest.param(FULL_DISK, "new", "written (File too large)", marks=pytest.mark.slow),
        pytest.param("DELETE = True", "new", "", marks=pytest.mark.slow),
    ],
    ids=["not a folder", "no home", "full disk", "deleted"],
)
def test_ops_work_without_a_cache(tmp_path, before, cache, warning):
    (tmp_path / "file").touch()
    source = str(Path(minise.__file__).parents[1])
    environment = {**os.environ, "MINISE_CACHE": str(tmp_path / cache), "PYTHONPATH": source}
    done = subprocess.run(
        [sys.executable, "-c", f"DELETE = False\n{before}\n{PROGRAM}"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "KernelCacheWarning" in line]
    assert len(lines) == (1 if warning else 0), done.stderr
    assert all(warning in line and "set MINISE_CACHE to a folder" in line for line in lines)
    assert not (tmp_path / "~").exists()


@pytest.fixture
def blocked(tmp_path, monkeypatch):
    """Make the cache a folder that cannot be created."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(cache_folder, "folder", lambda: tmp_path / "file" / "kernels")
    monkeypatch.setattr(cache_folder, "_warned", False)


@pytest.mark.usefixtures("blocked")
def test_the_command_line_warns_in_one_line(capsys, monkeypatch):
    def doctor():
        for _ in range(3):
            cache_folder.warn_once(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        warnings.warn("of another package", UserWarning, stacklevel=1)
        return 0

    monkeypatch.setattr("minise.cli.doctor.doctor", doctor)
    with pytest.warns(UserWarning, match="^of another package$"):
        status, _, err = call("doctor", capsys)
    assert status == 0
    assert err.startswith("minise: jit: the kernel cache ")
    assert err.endswith(
        "kernels cannot be written (No space left on device), so each process compiles its kernels "
        "again: set MINISE_CACHE to a folder that can be written\n"
    )
    assert err.count("\n") == 1


@pytest.mark.usefixtures("blocked")
def test_the_library_warns_once():
    with pytest.warns(KernelCacheWarning, match="^jit: the kernel cache"):
        cache_folder.warn_once(OSError("full"))
    cache_folder.warn_once(OSError("another"))  # a second warning would be an error


def test_doctor_reports_a_cache_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(cache_folder, "folder", lambda: tmp_path / "new" / "kernels")
    assert "jit cache" not in call("doctor", capsys)[1]
    assert list((tmp_path / "new" / "kernels").iterdir()) == []
    (tmp_path / "file").touch()
    monkeypatch.setattr(cache_folder, "folder", lambda: tmp_path / "file" / "kernels")
    status, out, err = call("doctor", capsys)
    assert (status, err) == (0, "")
    assert f"the kernel cache {tmp_path}/file/kernels cannot be written (Not a directory)" in out
    assert "set MINISE_CACHE to a folder that can be written" in out


def test_a_full_disk_is_found_by_a_probe(tmp_path, monkeypatch):
    def full(*arguments, **settings):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache_folder, "folder", lambda: tmp_path)
    assert probe() == ""
    monkeypatch.setattr(cache_folder.os, "replace", full)
    assert "(No space left on device)" in probe()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, expected in {"caches": tmp_path / "caches", "": Path(os.devnull)}.items():
        monkeypatch.setenv("MINISE_CACHE", name)
        monkeypatch.setattr(cache_folder, "user_cache_dir", lambda *a, **k: "~/.cache/minise")
        assert cache_folder._root() == expected
        assert folder.__wrapped__().is_relative_to(expected)
    monkeypatch.setattr(cache_folder, "folder", lambda: Path(os.devnull) / "kernels")
    assert "because this user has no home folder, so" in problem(OSError())
