"""Let file calls fail: each call of an action in turn, with each fault.

    def prepare(folder): save(folder / "net.bin", old)
    def action(folder): save(folder / "net.bin", new)

    def check(case):
        assert load(case.folder / "net.bin") in ([new] if case.error is None else [old, new])
        assert os.listdir(case.folder) == ["net.bin"]

    for_every_call(tmp_path, action, check, prepare)

The action runs once to count its calls (see calls.py: those in the folder), and then once for each
call and fault, each time in a folder that `prepare` has filled. An action that passes its errors on
ends with case.error; one that handles them, with None. An exception that is not the planted one, or
raised while it was handled, ends for_every_call; so do a descriptor that stays open, and an
assertion of check, with the case in a note.
"""

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.torture.calls import READS, Call, FileCalls

SPACE = {"create", "write", "mkdir", "link", "symlink", "fsync", "truncate"}  # need blocks
WITHOUT_PATH = {"read", "write", "fsync", "close", "flock"}  # calls on descriptors
CHANGES = SPACE | {"replace", "unlink", "rmdir", "chmod", "utime"}


class Fault(NamedTuple):
    """What happens to a call."""

    error: int | type[BaseException]  # errno, or an exception, such as KeyboardInterrupt
    when: str = "before"  # its effect; "after" it; "torn": half of the bytes are written
    lasting: frozenset[str] = frozenset()  # names of later calls that fail, too

    def __str__(self) -> str:
        """Return the error and when it is raised."""
        if not self.error:
            return self.when
        name = errno.errorcode[self.error] if isinstance(self.error, int) else self.error.__name__
        return f"{name} {self.when}{' and later' if self.lasting else ''}"

    def exception(self, call: Call | None = None) -> BaseException:
        """Return a new exception; an OSError names the files of calls that have a path."""
        if not isinstance(self.error, int):
            return self.error()
        named = call is not None and call.name not in WITHOUT_PATH
        paths = [call.path, *([None, call.second] if call.second else [])] if named else []
        return OSError(self.error, os.strerror(self.error), *paths)


SHORT = Fault(0, "short")  # writes half of the bytes and returns their number, which is no error
FAULTS = (
    Fault(errno.ENOSPC),
    Fault(errno.ENOSPC, "torn", frozenset(SPACE)),  # the disk is full and stays full
    Fault(errno.EDQUOT, "before", frozenset(SPACE)),
    Fault(errno.EIO),
    Fault(errno.EIO, "after"),  # such as a server whose answer is lost
    Fault(errno.EIO, "torn", frozenset(CHANGES)),  # the disk fails and stays so
    Fault(errno.EROFS, "before", frozenset(CHANGES)),
    Fault(errno.EACCES),
    SHORT,
    Fault(KeyboardInterrupt),  # a signal whose handler raises
    Fault(KeyboardInterrupt, "after"),
)


class Case(NamedTuple):
    """An action that ran with one fault."""

    folder: Path
    number: int  # of the call that failed, from 0
    call: Call
    fault: Fault
    error: BaseException | None  # with which the action ended
    calls: list[Call]  # all of the action


class Failing:
    """A handler for FileCalls that lets call `number` of those with these names fail."""

    def __init__(self, number: int | None, fault: Fault, names: Callable[[str], bool]) -> None:
        self.number, self.fault, self.names = number, fault, names
        self.calls: list[Call] = []

    def __call__(self, call: Call, perform: Callable[..., Any]) -> Any:
        """Perform the call, or fail."""
        number = len(self.calls)
        counts = self.names(call.name)
        if counts:
            self.calls.append(call)
        fails = counts and number == self.number
        later = self.number is not None and number > self.number and call.name in self.fault.lasting
        if not fails and not later:
            return perform()
        half = call.data[: len(call.data) // 2]
        if fails and self.fault.when == "short":
            return perform(half) if half else perform()
        if call.name == "close" or (fails and self.fault.when == "after"):
            perform()  # a descriptor is closed even if close fails
        elif fails and self.fault.when == "torn" and half:
            perform(half)
        raise self.fault.exception(call)


def for_every_call(
    folder: Path,
    action: Callable[[Path], Any],
    check: Callable[[Case], None],
    prepare: Callable[[Path], Any] = lambda folder: None,
    faults: Sequence[Fault] = FAULTS,
    names: Callable[[str], bool] = lambda name: name not in READS - {"open", "flock"},
    select: Callable[[int], bool] = lambda case: True,
) -> list[Case]:
    """Run an action once for each of its file calls and each fault; check after each.

    Parameters
    ----------
    folder : Path
        An empty folder; each run gets a new folder "run" in it, removed after the check.
    action, prepare : callable(folder)
        prepare runs before action, without faults.
    check : callable(case)
        Raises AssertionError if the folder or the error is not as expected.
    faults : sequence of Fault
        SHORT is tried for writes only.
    names : callable(str) -> bool
        Which calls fail, by name; by default all but reading and listing.
    select : callable(int) -> bool
        Which cases, by number, to run: an action that takes long is spread over a few.

    Returns
    -------
    list of Case
        All cases, to assert that there were some.
    """
    _, calls = _run(folder, action, prepare, Failing(None, faults[0], names))
    cases, count = [], 0
    for number, call in enumerate(calls):
        for fault in faults:
            if fault.when == "short" and call.name != "write":
                continue
            count += 1
            if not select(count - 1):
                continue
            before = _descriptors()
            error, seen = _run(folder, action, prepare, Failing(number, fault, names))
            case = Case(folder / "run", number, call, fault, error, seen)
            try:
                same = number < len(seen) and seen[number].name == call.name
                assert same, "the action made other calls than in its first run"
                check(case)
                assert _descriptors() == before, "a descriptor stays open"
            except BaseException as failure:
                failure.add_note(f"call {number} of {len(calls)}, {call}: {fault}; error {error!r}")
                raise
            cases.append(case._replace(error=error and error.with_traceback(None)))
    return cases


def _run(folder: Path, action: Any, prepare: Any, handle: Failing) -> tuple[Any, list[Call]]:
    """Run an action in a new folder; return the planted error with which it ended, and calls."""
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    prepare(run)
    error: BaseException | None = None
    with FileCalls(run, handle):
        try:
            action(run)
        except BaseException as raised:
            if handle.number is None or not _is_planted(raised, handle.fault):
                raise
            error = raised
    return error, handle.calls


def _is_planted(error: BaseException | None, fault: Fault) -> bool:
    """Return whether an error is the planted one, or was raised because of it."""
    planted = type(fault.exception())
    while error is not None:
        if isinstance(error, planted):
            return True
        error = error.__cause__ or error.__context__
    return False


def _descriptors() -> int:
    """Return the number of open descriptors of this process, 0 where it is unknown."""
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
