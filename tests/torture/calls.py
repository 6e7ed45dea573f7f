"""Observe every file call of Python code below a folder, and let a handler change its outcome.

    def handle(call, perform):
        print(call.name, call.path)
        return perform()  # or raise OSError, before or after

    with FileCalls(folder, handle):
        save(folder / "net.bin")

Each call is as the kernel would see it: what Python's buffers gather is a single write. Seen are
the functions of the module os (and thereby pathlib, shutil and tempfile), files of `open`,
`io.open` and `os.fdopen`, and the locks of fcntl, in all threads of this process. Not seen is what
C or Rust code writes by itself (numpy.ndarray.tofile, memory maps, safetensors' save_file), nor
functions that a module imported by name before (`from os import replace`). `crash.record` notices
it: it compares the content that follows from the calls with the folder's.

Standard library only.
"""

import builtins
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CREATES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
PATHS = {  # function of os: number of its paths
    **dict.fromkeys(("replace", "rename", "link", "symlink"), 2),
    **dict.fromkeys(("unlink", "remove", "mkdir", "rmdir", "chmod", "utime"), 1),
}
SYNONYMS = {"rename": "replace", "remove": "unlink", "fdatasync": "fsync", "lockf": "flock"}
READS = {"open", "read", "list", "flock"}  # names of the calls that change no file


class Call(NamedTuple):
    """A file call."""

    name: str  # create, open, read, write, truncate, fsync, close, replace, link, …
    path: str  # absolute; of symlink, the link's target as it was passed
    second: str = ""  # the second path of replace, link and symlink
    data: bytes = b""  # of write
    offset: int = 0  # of write: where; of truncate: the new size; of create: 1 if it truncates

    def __str__(self) -> str:
        """Return the name and the names of the files."""
        size = f" {len(self.data)} bytes" if self.name == "write" else ""
        names = " ".join(os.path.basename(path) for path in (self.path, self.second) if path)
        return f"{self.name} {names}{size}"


Handler = Callable[[Call, Callable[..., Any]], Any]


class FileCalls:
    """Pass each file call below a folder to a handler, while the context is open.

    Parameters
    ----------
    folder : path
        Calls on other paths are performed as they are.
    handle : callable(call, perform)
        Performs the call by perform() and returns its result, or raises instead of it or after it.
        For a write, perform(part) writes other bytes; the number of written bytes is returned.
    """

    def __init__(self, folder: Any, handle: Handler) -> None:
        self.folder, self.handle = os.path.realpath(folder), handle
        self.files: dict[int, tuple[str, bool]] = {}  # descriptor: path, and whether it is written
        self.real: dict[str, Any] = {}
        self._patches: list[Any] = []

    def __enter__(self) -> "FileCalls":
        """Replace the functions."""
        functions: dict[str, Any] = {name: self._paths(name) for name in PATHS}
        for name in ("fsync", "fdatasync", "ftruncate", "write", "close"):
            functions[name] = self._descriptor(name)
        functions |= dict(
            open=self._os_open, truncate=self._truncate, listdir=self._list("listdir")
        )
        functions |= dict(scandir=self._list("scandir"), sendfile=self._sendfile)
        for name, function in functions.items():
            if hasattr(os, name):
                self._replace(os, name, function)
        for name in ("flock", "lockf"):
            if fcntl is not None:
                self._replace(fcntl, name, self._descriptor(name, fcntl))
        self.real["io.open"] = io.open
        self._patches += [mock.patch.object(io, "open", self.open)]
        self._patches += [mock.patch.object(builtins, "open", self.open)]
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *error: Any) -> None:
        """Restore the functions."""
        while self._patches:
            self._patches.pop().stop()

    def _replace(self, module: Any, name: str, function: Any) -> None:
        self.real[name] = getattr(module, name)
        self._patches.append(mock.patch.object(module, name, function))

    def path_of(self, path: Any, dir_fd: int | None = None) -> str | None:
        """Return the absolute path of a path or descriptor, or None if it is not below the folder.

        A symbolic link as the last part is not followed.
        """
        if isinstance(path, int):
            return self.files.get(path, (None,))[0]
        path = os.fsdecode(path)
        if dir_fd is not None:
            path = os.path.join(self.files.get(dir_fd, ("",))[0], path)
        parent, name = os.path.split(os.path.abspath(path))
        path = os.path.join(os.path.realpath(parent), name)
        return path if path == self.folder or path.startswith(self.folder + os.sep) else None

    def _paths(self, name: str) -> Any:
        def run(*arguments: Any, **settings: Any) -> Any:
            def perform() -> Any:
                return self.real[name](*arguments, **settings)

            count, folders = PATHS[name], ("src_dir_fd", "dst_dir_fd")
            fds = [settings.get(key) for key in folders] if count == 2 else [settings.get("dir_fd")]
            paths = [self.path_of(p, fd) for p, fd in zip(arguments[:count], fds, strict=True)]
            if all(path is None for path in paths):
                return perform()
            if name == "symlink":
                paths[0] = os.fsdecode(arguments[0])
            return self.handle(Call(SYNONYMS.get(name, name), *(p or "" for p in paths)), perform)

        return run

    def _descriptor(self, name: str, module: Any = os) -> Any:
        def run(file: Any, *arguments: Any) -> Any:
            fd = file if isinstance(file, int) else file.fileno()

            def perform(part: Any = None) -> Any:
                return self.real[name](file, *(arguments if part is None else (part,)))

            path, writes = self.files.get(fd, (None, False))
            if path is None or (name == "close" and not writes):
                self.files.pop(fd, None) if name == "close" else None
                return perform()
            call = Call(SYNONYMS.get(name, name), path)
            if name == "write":
                call = call._replace(data=bytes(arguments[0]), offset=self._position(fd))
            elif name == "ftruncate":
                call = call._replace(name="truncate", offset=arguments[0])
            elif name == "close":
                del self.files[fd]
            return self.handle(call, perform)

        return run

    def _position(self, fd: int) -> int:
        """Return where the next write goes."""
        appends = fcntl is not None and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
        return os.fstat(fd).st_size if appends else os.lseek(fd, 0, os.SEEK_CUR)

    def _truncate(self, path: Any, length: int) -> Any:
        if isinstance(path, int):
            return os.ftruncate(path, length)
        name = self.path_of(path)
        if name is None:
            return self.real["truncate"](path, length)
        call = Call("truncate", name, offset=length)
        return self.handle(call, lambda: self.real["truncate"](path, length))

    def _list(self, name: str) -> Any:
        def run(path: Any = ".") -> Any:
            where = None if isinstance(path, int) else self.path_of(path)
            if where is None:
                return self.real[name](path)
            return self.handle(Call("list", where), lambda: self.real[name](path))

        return run

    def _sendfile(self, out: int, *arguments: Any) -> Any:
        if out in self.files:  # shutil then copies by read and write
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        return self.real["sendfile"](out, *arguments)

    def _os_open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: Any = None) -> int:
        where = self.path_of(path, dir_fd)
        if where is None:
            return self.real["open"](path, flags, mode, dir_fd=dir_fd)
        opened: list[int] = []

        def perform() -> int:
            opened.append(self.real["open"](path, flags, mode, dir_fd=dir_fd))
            return opened[0]

        try:
            self.handle(call_to_open(where, flags), perform)
        except BaseException:
            for fd in opened:
                self.real["close"](fd)
            raise
        self.files[opened[0]] = where, bool(flags & CREATES)
        return opened[0]

    def open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        """Open a file as io.open does; its calls below the folder are handled."""
        if self.path_of(file) is None:
            rest = buffering, encoding, errors, newline, closefd, opener
            return self.real["io.open"](file, mode, *rest)
        raw = RawFile(self, file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        kind: Any = io.BufferedReader if mode[0] == "r" else io.BufferedWriter
        kind = io.BufferedRandom if "+" in mode else kind
        buffered = kind(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)
        if "b" in mode:
            return buffered
        text = io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)
        text.mode = mode
        return text


class RawFile(io.FileIO):
    """An unbuffered file whose calls are handled; opened by FileCalls.open."""

    def __init__(self, calls: FileCalls, file: Any, mode: str, closefd: bool, opener: Any) -> None:
        self.calls, self.path = calls, str(calls.path_of(file))

        def perform() -> None:
            io.FileIO.__init__(self, file, mode, closefd, opener)

        flags = os.O_RDONLY if mode == "r" else os.O_RDWR
        flags |= {"w": os.O_CREAT | os.O_TRUNC, "r": 0}.get(mode[0], os.O_CREAT)
        try:
            if isinstance(file, int) or opener is not None:  # the call was, or is, os.open's
                perform()
            else:
                calls.handle(call_to_open(self.path, flags), perform)
        except BaseException:
            io.FileIO.close(self)
            raise
        calls.files[self.fileno()] = self.path, bool(flags & CREATES)

    def write(self, data: Any) -> int:
        """Write bytes."""
        call = Call("write", self.path, "", bytes(data), self.calls._position(self.fileno()))
        perform = io.FileIO.write
        return self.calls.handle(
            call, lambda part=None: perform(self, data if part is None else part)
        )

    def truncate(self, size: int | None = None) -> int:
        """Cut or lengthen the file."""
        size = self.tell() if size is None else size
        call = Call("truncate", self.path, offset=size)
        return self.calls.handle(call, lambda: io.FileIO.truncate(self, size))

    def readinto(self, buffer: Any) -> Any:
        """Read into a buffer."""
        return self._read(lambda: io.FileIO.readinto(self, buffer))

    def readall(self) -> Any:
        """Read the rest."""
        return self._read(lambda: io.FileIO.readall(self))

    def read(self, size: int = -1) -> Any:
        """Read bytes."""
        return self.readall() if size < 0 else self._read(lambda: io.FileIO.read(self, size))

    def _read(self, perform: Any) -> Any:
        return self.calls.handle(Call("read", self.path), perform)

    def close(self) -> None:
        """Close the file."""
        if self.closed:
            return
        writes = self.writable()
        if self.closefd:
            self.calls.files.pop(self.fileno(), None)
        if writes and self.closefd:
            self.calls.handle(Call("close", self.path), lambda: io.FileIO.close(self))
        else:
            io.FileIO.close(self)


def call_to_open(path: str, flags: int) -> Call:
    """Return the call that opens a file with these flags of os.open."""
    if not flags & CREATES:
        return Call("open", path)
    return Call("create", path, offset=int(bool(flags & os.O_TRUNC)))


def names_in(folder: Path) -> dict[str, bytes]:
    """Return the content of each file below a folder, by its path in the folder."""
    files = (path for path in sorted(Path(folder).rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
