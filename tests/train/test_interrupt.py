"""Signals during a run in a library: the first ends the step, the second raises at once."""

import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from minise import nn, train
from minise.ops import reference
from minise.signals import SIGNALS, command
from minise.train.interrupt import Interrupted, Interruption, interrupted, naming_the_checkpoint
from minise.train.run_folder import RunFolder


@pytest.fixture(autouse=True)
def _handlers():
    """Install Python's handlers: pytest may run in the background, where SIGINT is ignored."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_signal_raises_keyboard_interrupt(number):
    before = handlers()
    with Interruption() as interruption:
        signal.raise_signal(number)
        assert interruption.number == number
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(signal.SIGINT)
        assert caught.value.number == number  # the first one's decides the exit status
        interruption.number = 0
    assert handlers() == before
    assert not command.installed
    assert command.number == 0


def test_a_signal_in_an_evaluation_raises_at_once():
    with Interruption() as interruption:
        with pytest.raises(KeyboardInterrupt), interruption.at_once("validation"):
            signal.raise_signal(signal.SIGTERM)
        assert interruption.where == " in validation"
        with interruption.at_once("the test"):
            pass
        assert interruption.where == ""
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), interruption.at_once("the test"):
            pytest.fail("the stored signal raises before the block")
        interruption.number = 0


def test_a_signal_in_a_compilation_raises_at_once(monkeypatch):
    with Interruption() as interruption:
        monkeypatch.setattr("minise.train.interrupt.is_compiling", lambda: True)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert (interruption.number, interruption.where) == (0, " while a kernel is compiled")
        monkeypatch.setattr("minise.train.interrupt.is_compiling", lambda: False)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):  # before the next kernel
            interruption.before_compiling("kernel", 1, 2)
        interruption.number = 0


def test_a_signal_after_the_last_step_is_not_lost(tmp_path):
    interruption = Interruption()
    with (
        pytest.raises(Interrupted, match="^train: interrupted; no checkpoint is written$"),
        interruption,
        naming_the_checkpoint(RunFolder(tmp_path), interruption),
    ):
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), Interruption():
        signal.raise_signal(signal.SIGTERM)


def test_ignored_signals_stay_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert interruption.number == 0


def test_a_run_in_another_thread_installs_no_handler():
    before, seen = handlers(), []

    def run():
        with Interruption():
            seen.append(handlers())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_signal_while_handlers_are_installed_restores_them(monkeypatch):
    before, install = handlers(), signal.signal

    def interrupting(number, handler):
        install(number, handler)
        if number == SIGNALS[1] and handler is not before[1]:
            raise KeyboardInterrupt

    monkeypatch.setattr(signal, "signal", interrupting)
    with pytest.raises(KeyboardInterrupt), Interruption():
        pass
    assert handlers() == before


def test_the_message_names_how_to_go_on(tmp_path):
    """A net of the user's own needs its Python program again."""
    net = nn.Chain(("fc", nn.Linear(3, 2, ops=reference)))
    batches = [(np.ones((4, 3), np.float32), np.zeros(4, np.int64))] * 3
    objective = train.SoftmaxCrossEntropy(reference)
    steps = []

    def forward(out, targets):
        steps.append(1)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGTERM)
        return objective.forward(out, targets)

    signalling = SimpleNamespace(
        forward=forward, backward=objective.backward, metrics=objective.metrics
    )
    run = tmp_path / "a"
    words = (
        rf"^train: interrupted after step 2 of 3, saved in {run}/last.safetensors; to continue: "
    )
    with pytest.raises(Interrupted, match=rf"{words}train.run\(…, resume='{run}'\)$") as caught:
        train.run(net, signalling, batches, train.SGD(net), epochs=1, out=tmp_path, name="a")
    assert caught.value.exit_status == 143


def test_paths_are_quoted_for_the_shell(tmp_path):
    folder = RunFolder(tmp_path / "my run")
    folder.path.mkdir()
    folder.write_config({"model": "resnet8"})
    folder.last.touch()
    error = interrupted(signal.SIGHUP, folder, "step 1 of 2")
    assert str(error).endswith(f"; to continue: minise resume '{folder.path}'")
    assert error.exit_status == 129


def test_a_closed_pipe_after_a_signal_is_the_signals(tmp_path):
    interruption = Interruption()
    for error in (BrokenPipeError(32, "Broken pipe"), OSError(5, "I/O error"), SystemExit(1)):
        with pytest.raises(type(error)), naming_the_checkpoint(RunFolder(tmp_path), interruption):
            raise error
        interruption.number = signal.SIGHUP
        with (
            pytest.raises(Interrupted, match="no checkpoint"),
            naming_the_checkpoint(RunFolder(tmp_path), interruption),
        ):
            raise error
        interruption.number = 0
