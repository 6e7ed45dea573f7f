"""Disks that are full, small or read-only, and folders that cannot be written.

    with small_disk(2**20) as disk:
        life = run(disk.command(["python", "-m", "package", "--out", disk.path]))
        disk.resize(2**24)  # space again
        names = os.listdir(disk.outside)

The disk is a tmpfs in a mount namespace of its own, so that nothing is mounted on the machine and
nothing stays mounted: commands see it by `disk.command` (nsenter), this process reads it by
`disk.outside`, a path in /proc. It needs Linux, util-linux, and root or user namespaces; otherwise
pytest skips the test with the reason. Without any rights, `limited_files` limits the size of
each file that a command writes (EFBIG, as a quota), and /dev/full is a device without space:

    (folder / "log").symlink_to("/dev/full")
    run(command, preexec_fn=limited_files(2**16))

`read_only` and `immutable` protect a folder from root, too, which ignores permission bits.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

READY = "mounted"


class Disk:
    """A folder in a mount namespace; see small_disk and read_only."""

    def __init__(self, path: Path, holder: Any, user: bool) -> None:
        self.path, self.holder, self.user = Path(path), holder, user

    @property
    def outside(self) -> Path:
        """The folder as this process can read and write it."""
        return Path(f"/proc/{self.holder.pid}/root{self.path}")

    def command(self, command: Sequence[Any]) -> list[str]:
        """Return a command that runs another one where the disk is mounted."""
        user = ["--user", "--preserve-credentials"] if self.user else []
        enter = ["nsenter", "--target", str(self.holder.pid), "--mount", *user, "--wd=."]
        return [*enter, *map(str, command)]

    def remount(self, options: str) -> None:
        """Change the disk: "ro", "rw", "size=1048576"."""
        command = ["mount", "-o", f"remount,{options}", str(self.path)]
        subprocess.run(self.command(command), check=True, capture_output=True)

    def resize(self, size: int) -> None:
        """Change the number of bytes of a small disk."""
        self.remount(f"size={size}")

    def free(self) -> int:
        """Return the number of free bytes."""
        return shutil.disk_usage(self.outside).free


@contextmanager
def small_disk(size: int, path: Path) -> Iterator[Disk]:
    """Mount an empty disk of `size` bytes on an existing folder; skip if that is not allowed."""
    with _namespace(path, f"mount -t tmpfs -o size={size} torture {_quoted(path)}") as disk:
        yield disk


@contextmanager
def read_only(path: Path) -> Iterator[Disk]:
    """Show a folder as read-only (EROFS), for root too; skip if that is not allowed."""
    name = _quoted(path)
    with _namespace(path, f"mount --bind {name} {name} && mount -o remount,bind,ro {name}") as disk:
        yield disk


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    """Make a folder or a file immutable (EPERM), for root too; skip if that is not allowed."""
    for option in ("+i", "-i"):
        done = subprocess.run(["chattr", option, str(path)], capture_output=True, text=True)
        if option == "+i" and done.returncode:
            pytest.skip(f"chattr is not allowed: {done.stderr.strip()}")
        if option == "+i":
            try:
                yield
            finally:
                subprocess.run(["chattr", "-i", str(path)], check=True, capture_output=True)
            return


def limited_files(size: int) -> Callable[[], None]:
    """Return a preexec_fn of subprocess.Popen: no file can get longer than `size` bytes."""
    resource = pytest.importorskip("resource")

    def limits() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limits


def fill(folder: Path, leave: int = 0) -> Path:
    """Fill a disk with one file up to `leave` free bytes; return the file, to remove it later."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file, suppress(OSError):  # others may write, too
        while free := max(0, shutil.disk_usage(folder).free - leave):
            file.write(bytes(free))
    return path


@contextmanager
def _namespace(path: Path, script: str) -> Iterator[Disk]:
    """Hold a mount namespace open in which a script of the shell has run."""
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        pytest.skip("unshare and nsenter of util-linux are not installed")
    reasons = []
    for user in ([], ["--user", "--map-root-user"]):
        holder = subprocess.Popen(
            ["unshare", "--mount", *user, "sh", "-c", f"{script} && echo {READY} && cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            assert holder.stderr is not None
            try:
                if holder.stdout.readline().strip() == READY:
                    yield Disk(path, holder, bool(user))
                    return
            finally:
                holder.stdin.close()  # cat ends, and with it the namespace
            reasons.append(holder.stderr.read().strip())
        if os.geteuid() == 0 and not user:
            continue
    pytest.skip(f"mounting is not allowed: {'; '.join(reasons)}")


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "'\\''") + "'"
