"""Simulate a power failure after every file call of an action.

    def check(folder, done):
        assert load(folder / "net.bin") in ([new] if done else [old, new])

    for_every_crash(tmp_path, action, check, prepare)

The model of the disk is the strictest that POSIX allows: the content of a file is durable after
fsync of the file, its name (create, replace, link, unlink, mkdir) after fsync of its folder, and
of what is not durable any part may be lost, in any order. After a power failure therefore:

- of the name changes of a folder since its last fsync, any subset is on the disk;
- a file that was changed since its last fsync has its content of then, or its newest, or half of
  the newest write, or zeros where bytes were written (size before data).

The action runs once, its calls are recorded (see calls.py), and the states after each call are
written into folders of their own. What `prepare` wrote before is durable. As a control, the names
and contents that follow from all calls are compared with those of the real folder: they differ if
code has written in a way that calls.py cannot see.
"""

import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.torture.calls import Call, FileCalls, names_in

SUBSETS = 5  # with more pending changes of names only prefixes, and all without one, are tried
STATES = 64  # of one prefix of the calls; more are drawn at random


class Inode:
    """The content of a file, as programs see it and as the disk has it."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = self.durable = content
        self.last = 0, 0  # first and last byte of the newest write

    def versions(self) -> list[bytes]:
        """Return the contents that a power failure may leave."""
        if self.content == self.durable:
            return [self.content]
        start, stop = self.last
        middle = (start + stop) // 2
        zeros = bytearray(self.content)
        for k in range(len(zeros)):
            if k >= len(self.durable) or zeros[k] != self.durable[k]:
                zeros[k] = 0
        torn = self.content[:middle] + self.durable[middle:]
        return list(dict.fromkeys((self.durable, self.content, torn, bytes(zeros))))


class Change(NamedTuple):
    """A change of the names of a folder that is not yet durable."""

    folder: str
    names: dict[str, Any]  # path: an Inode, "folder", or None if the name is removed


class Disk:
    """The files below a folder: names and contents, live and durable."""

    def __init__(self, folder: Path) -> None:
        self.root = os.path.realpath(folder)
        self.live: dict[str, Any] = {}
        for path in sorted(Path(self.root).rglob("*")):
            self.live[str(path)] = Inode(path.read_bytes()) if path.is_file() else "folder"
        self.durable = dict(self.live)
        self.pending: list[Change] = []

    def apply(self, call: Call) -> None:
        """Apply a call that succeeded."""
        inode = self.live.get(call.path)
        if call.name == "create":
            if inode is None:
                self._change(call.path, {call.path: Inode()})
            elif call.offset:
                self._write(inode, 0, 0, b"")
        elif call.name in ("write", "truncate"):
            end = call.offset + len(call.data)
            start = inode.content.ljust(call.offset, b"\0")[: call.offset] + call.data
            self._write(
                inode, call.offset, end, start + inode.content[end:] if call.data else start
            )
        elif call.name == "fsync" and isinstance(inode, Inode):
            inode.durable = inode.content
        elif call.name == "fsync":
            self._sync(call.path)
        elif call.name == "link":
            self._change(call.second, {call.second: inode})
        elif call.name == "replace":
            self._replace(call.path, call.second)
        elif call.name in ("unlink", "rmdir"):
            self._change(call.path, {call.path: None})
        elif call.name == "mkdir":
            self._change(call.path, {call.path: "folder"})

    def _write(self, inode: Inode, start: int, stop: int, content: bytes) -> None:
        inode.content, inode.last = content, (start, stop)

    def _replace(self, source: str, target: str) -> None:
        if self.live[source] == "folder":
            raise NotImplementedError("the model does not rename folders")
        if self.live[source] is self.live.get(target):
            return None  # two names of one file: rename does nothing
        names = {source: None, target: self.live[source]}
        if os.path.dirname(source) == os.path.dirname(target):
            return self._change(target, names)
        self._change(target, {target: names[target]})  # two folders: not atomic after a failure
        return self._change(source, {source: None})

    def _change(self, path: str, names: dict[str, Any]) -> None:
        self.live = _changed(self.live, names)
        self.pending.append(Change(os.path.dirname(path), names))

    def _sync(self, folder: str) -> None:
        for change in self.pending:
            if change.folder == folder:
                self.durable = _changed(self.durable, change.names)
        self.pending = [change for change in self.pending if change.folder != folder]

    def files(self) -> dict[str, bytes]:
        """Return the content of each live file, by its path in the folder."""
        return {
            os.path.relpath(path, self.root): inode.content
            for path, inode in sorted(self.live.items())
            if isinstance(inode, Inode)
        }

    def after_crash(self, rng: random.Random) -> Iterator[dict[str, bytes | None]]:
        """Yield the states that a power failure may leave: contents by path, None for a folder."""
        states = []
        for chosen in _subsets(self.pending):
            names = self.durable
            for change in chosen:
                names = _changed(names, change.names)
            names = {path: inode for path, inode in names.items() if self._has_folder(path, names)}
            inodes = list({id(i): i for i in names.values() if isinstance(i, Inode)}.values())
            for contents in itertools.product(*(inode.versions() for inode in inodes)):
                by_inode = dict(zip(map(id, inodes), contents, strict=True))
                state = {
                    os.path.relpath(path, self.root): by_inode.get(id(inode))
                    for path, inode in names.items()
                }
                if state not in states:
                    states.append(state)
        yield from states if len(states) <= STATES else rng.sample(states, STATES)

    def _has_folder(self, path: str, names: dict[str, Any]) -> bool:
        folder = os.path.dirname(path)
        return folder == self.root or (folder in names and self._has_folder(folder, names))


def record(folder: Path, action: Callable[[Path], Any]) -> list[Call]:
    """Return the file calls of an action in a folder; they must be all that changed it."""
    calls, disk = [], Disk(folder)

    def handle(call: Call, perform: Any) -> Any:
        written = perform()
        calls.append(call._replace(data=call.data[:written]) if call.name == "write" else call)
        return written

    with FileCalls(folder, handle):
        action(folder)
    for call in calls:
        disk.apply(call)
    real = names_in(folder)
    assert disk.files() == real, f"not all was seen: {sorted(disk.files())}, real {sorted(real)}"
    return calls


def for_every_crash(
    folder: Path,
    action: Callable[[Path], Any],
    check: Callable[[Path, bool], None],
    prepare: Callable[[Path], Any] = lambda folder: None,
    select: Callable[[int], bool] = lambda state: True,
    seed: int = 0,
) -> int:
    """Run an action once; check each state that a power failure after any of its calls may leave.

    Parameters
    ----------
    folder : Path
        An empty folder, for the run and for the states.
    action, prepare : callable(folder)
        prepare runs before action; its files are durable.
    check : callable(folder, done)
        Raises AssertionError if the state in the folder is not as expected. done says whether the
        action had returned: then what it has promised must be on the disk.
    select : callable(int) -> bool
        Which states, by number, to check: a check that takes long is spread over a few.
    seed : int
        Draws states where there are more than 64 after one call.

    Returns
    -------
    int
        Number of checked states.
    """
    run, number, rng = folder / "run", 0, random.Random(seed)
    run.mkdir()
    prepare(run)
    disk = Disk(run)
    calls = record(run, action)
    checked = 0
    for k in range(len(calls) + 1):
        if k:
            disk.apply(calls[k - 1])
        for state in disk.after_crash(rng):
            number += 1
            if not select(number - 1):
                continue
            target = folder / "crash"
            shutil.rmtree(target, ignore_errors=True)
            write_state(target, state)
            try:
                check(target, k == len(calls))
            except BaseException as failure:
                last = f"call {k} of {len(calls)}, {calls[k - 1]}" if k else "no call"
                sizes = {name: text if text is None else len(text) for name, text in state.items()}
                failure.add_note(f"power failure after {last}, state {number - 1}: bytes {sizes}")
                raise
            checked += 1
    return checked


def write_state(folder: Path, state: dict[str, bytes | None]) -> None:
    """Write the files of a state into a folder."""
    folder.mkdir(parents=True)
    for name, content in sorted(state.items()):
        path = folder / name
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)


def _changed(names: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return names after changes; None removes a name."""
    return {path: inode for path, inode in {**names, **changes}.items() if inode is not None}


def _subsets(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """Yield subsets of changes, in order; of many changes only prefixes, and all without one."""
    count = len(changes)
    if count <= SUBSETS:
        for chosen in itertools.product((False, True), repeat=count):
            yield list(itertools.compress(changes, chosen))
        return
    for k in range(count + 1):
        yield list(changes[:k])
        yield [change for number, change in enumerate(changes) if number != k]
