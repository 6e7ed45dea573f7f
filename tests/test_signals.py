"""The handlers of a command, with a replaced os._exit; tests/cli/test_signals.py runs commands."""

import os
import signal
from types import SimpleNamespace

import pytest

from minise import signals
from minise.signals import Stop, handle


class Ended(BaseException):
    """os._exit was called."""


@pytest.fixture
def command(monkeypatch):
    """Return a command that has started, whose standard error is a list of lines."""

    def leave(status):
        raise Ended(status)

    command = signals._Command()
    command.installed, command.lines = True, []
    monkeypatch.setattr(signals, "command", command)
    monkeypatch.setattr(signals, "_write", command.lines.append)
    monkeypatch.setattr(signals.sys, "argv", ["minise", "check"])
    monkeypatch.setattr(os, "_exit", leave)
    return command


def ends(number, status):
    with pytest.raises(Ended) as caught:
        handle(number, None)
    assert caught.value.args == (status,)


def test_a_signal_before_the_start_ends_the_process(command):
    ends(signal.SIGTERM, 143)
    assert command.lines == ["minise: check: interrupted before the start; nothing is written\n"]


def test_the_first_signal_raises_and_the_second_ends_the_process(command):
    signals.begin()
    with pytest.raises(Stop):
        handle(signal.SIGTERM, None)
    command.describe = lambda: "a has b"
    ends(signal.SIGINT, 143)
    assert command.lines == ["minise: check: interrupted twice, ended at once; a has b\n"]


def test_a_signal_during_the_last_line_waits(command, capsys):
    class Line(str):
        def __str__(self):
            handle(signal.SIGINT, None)
            return "last"

    with pytest.raises(Ended) as caught:
        signals.end(1, Line("line"))
    assert caught.value.args == (1,)
    assert capsys.readouterr().err == "last\n"


def test_a_signal_after_the_end_leaves_the_status_and_no_line(command):
    signals.begin()
    signals.end(3)
    ends(signal.SIGHUP, 3)
    assert command.lines == []


def test_a_third_signal_writes_no_second_line(command):
    command.writes = True
    handle(signal.SIGINT, None)
    assert command.lines == []


def test_a_lost_stop_is_sent_again(command, monkeypatch, capsys):
    sent = []
    monkeypatch.setattr(
        signals._thread, "start_new_thread", lambda f, numbers: sent.extend(numbers)
    )
    signals.begin()
    with pytest.raises(Stop) as caught:
        handle(signal.SIGTERM, None)
    signals._unraisable(SimpleNamespace(exc_value=caught.value))
    assert sent == [signal.SIGTERM]
    with pytest.raises(Stop):  # not the second one
        handle(signal.SIGTERM, None)
    assert capsys.readouterr().err == ""


def test_names_from_outside_are_not_printed(command, monkeypatch):
    monkeypatch.setattr(signals.sys, "argv", ["minise", "\x1b[31m"])
    ends(signal.SIGINT, 130)
    assert command.lines == ["minise: interrupted before the start; nothing is written\n"]
