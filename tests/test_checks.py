"""Checks of arguments that are not arrays, and their messages."""

import os
import shutil
import subprocess

import numpy as np
import pytest

from minise import checks


def test_choices_and_flags():
    checks.check_choice("op", "gate", "relu", ("relu", "tanh"))
    with pytest.raises(
        ValueError, match="^op: gate is 'rlu', expected one of relu, tanh: did you mean relu"
    ):
        checks.check_choice("op", "gate", "rlu", ("relu", "tanh"))
    for good in (True, np.False_):
        checks.check_flag("op", "training", good)
    for bad in (1, "yes", None):
        message = f"^op: training is {bad!r}, expected True or False: pass bool"
        with pytest.raises(TypeError, match=message):
            checks.check_flag("op", "training", bad)


def test_integers():
    checks.check_integer("op", "groups", np.int64(1), 1)
    for bad in (1.0, "1", None):
        message = f"^op: groups is {bad!r}, expected an integer of at least 1: pass int"
        with pytest.raises(TypeError, match=message):
            checks.check_integer("op", "groups", bad, 1)
    with pytest.raises(ValueError, match="^op: groups is 0, expected at least 1$"):
        checks.check_integer("op", "groups", 0, 1)


def test_pairs():
    checks.check_pair("op", "stride", (1, 2), 1)
    checks.check_pair("op", "stride", [np.int64(1), 2], 1)
    for bad in (2, (1,), (1, 1, 1), "ab", np.ones(2, int)):
        with pytest.raises(
            TypeError, match=r"^op: stride is .*, expected a pair \(rows, columns\)"
        ):
            checks.check_pair("op", "stride", bad, 1)
    with pytest.raises(TypeError, match=r": pass \(2, 2\)$"):
        checks.check_pair("op", "stride", 2, 1)
    with pytest.raises(ValueError, match=r"^op: stride \(columns\) is 0, expected at least 1$"):
        checks.check_pair("op", "stride", (1, 0), 1)
    with pytest.raises(TypeError, match=r"^op: stride \(rows\) is 1.5, expected an integer"):
        checks.check_pair("op", "stride", (1.5, 1), 1)


def test_numbers():
    for good in (0, 0.5, 1, np.float32(0.5), np.int64(1)):
        checks.check_number("op", "p", good, "a number from 0 to 1", 0, 1)
    for bad in (-0.1, 1.1, float("nan"), float("inf"), None, "0.5", 1j, [0.5], np.array([0.5])):
        with pytest.raises(ValueError, match="^op: p is .*, expected a number from 0 to 1$"):
            checks.check_number("op", "p", bad, "a number from 0 to 1", 0, 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("cifra10", ": did you mean cifar10 or cifar100?"),
        ("CIFAR10", ": did you mean cifar10 or cifar100?"),
        ("shapes10", ": did you mean shapes10?"),
        ("imagenet", ""),
        (3, ""),
    ],
)
def test_did_you_mean(value, expected):
    assert checks.did_you_mean(value, ["cifar10", "cifar100", "shapes10"]) == expected


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is missing")
@pytest.mark.parametrize("name", ["runs/a", "a  b", "it's", "a\nb'\\c\t", "\x1b[1mé\udcff", "$x`"])
def test_a_path_as_a_word_of_a_command(name):
    word = checks.as_word(name)
    assert word.isprintable()
    printed = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert os.fsdecode(printed.stdout) == name


def test_longer_names_are_the_closest():
    names = ["resnet50", "resnext50_32x4d", "resnext101_32x4d", "resnet56"]
    assert checks.did_you_mean("ResNeXt50", names) == ": did you mean resnext50_32x4d or resnet50?"
    assert checks.did_you_mean("re", names) == ""
