"""Settings: round trips through JSON, old names, absolute paths, and messages."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minise.nn import SE
from minise.nn.squeeze_excite import Gate, Site, Squeeze
from minise.ops.backend import Algorithm
from minise.train.config import (
    Recipe,
    TrainConfig,
    from_dict,
    read_config,
    to_dict,
    with_absolute_paths,
)

CHANGED = TrainConfig(
    root=Path("/data"),
    se=SE(reduction=4, site="pre"),
    algorithm="direct",
    lr=0.1,
    name="mine",
    mean=(0.4, 0.5, 0.6),
)


@pytest.mark.parametrize("config", [TrainConfig(), CHANGED])
def test_round_trip_through_json(config, tmp_path):
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"config": to_dict(config), "versions": {}}))
    assert read_config(path) == config


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (dict(epochs=0), "train: epochs is 0, expected at least 1"),
        (dict(batch_size=2.5), "batch_size is 2.5, expected an integer of at least 1"),
        (dict(limit=0), "limit is 0, expected at least 1"),
        (dict(lr=-1), "lr is -1, expected a number from 0 to 1e6"),
        (dict(lr=float("nan")), "lr is nan, expected a number"),
        (dict(rate=-1), "lr is -1, expected a number from 0 to 1e6"),
        (dict(warmup=1.5), "warmup is 1.5, expected a number from 0 to 1"),
        (dict(nesterov="yes"), "nesterov is 'yes', expected True or False"),
        (dict(schedule="linear"), "schedule is 'linear', expected one of cosine, steps"),
        (dict(algorithm="fft"), "algorithm is 'fft', expected one of auto, direct, winograd"),
        (dict(name="a/b"), "name is 'a/b', expected a plain folder name"),
        (dict(name=".."), "name is '..', expected a plain folder name"),
        (dict(name="a\0b"), r"name is 'a\\x00b', expected a plain folder name"),
        (dict(mean=(0.5, 0.5, 125)), "mean is 125, expected three numbers from 0 to 1"),
        (dict(mean=(0.5, 0.5)), r"mean is \(0.5, 0.5\), expected three numbers from 0 to 1"),
        (dict(std=0.5), "std is 0.5, expected three numbers from above 0 to 1"),
        (dict(out=None), "out is a NoneType, expected a folder: pass a Path"),
        (dict(root=5), "root is a int, expected a folder: pass a Path"),
        (dict(std=(0.5, 0, 0.5)), "std is 0, expected three numbers from above 0 to 1"),
        (dict(val=-1), "val is -1, expected at least 0"),
    ],
)
def test_messages(setting, message):
    with pytest.raises((ValueError, TypeError), match=message):
        TrainConfig(**setting)


def test_numbers_of_numpy_are_written_as_json():
    config = TrainConfig(
        epochs=np.int64(3),
        limit=np.int32(9),
        lr=np.float32(0.5),
        flip=np.True_,
        mean=np.full(3, 0.5),
        out="mine",
    )
    assert (config.mean, config.out) == ((0.5, 0.5, 0.5), Path("mine"))
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


def test_rate_is_an_old_name_of_lr():
    config = TrainConfig(rate=0.3, seed=1)
    assert config == TrainConfig(lr=0.3, seed=1)
    assert config.rate == config.lr == 0.3
    assert replace(config, rate=0.5) == replace(config, lr=0.5) == TrainConfig(lr=0.5, seed=1)
    written = to_dict(config)
    assert "rate" not in written
    old = {"rate" if name == "lr" else name: value for name, value in written.items()}
    assert from_dict(old) == config


COUNTS = st.integers(1, 2**40)
SIZES = st.integers(0, 2**40)
FRACTIONS = st.floats(0, 1)
NUMBERS = st.floats(0, 1e6)
TEXTS = st.text().filter(lambda text: not text.endswith(".py"))  # no file, whose path is resolved
PATHS = st.text(st.characters(exclude_categories=["Cs"])).map(Path)
CHANNELS = st.tuples(*[st.floats(1e-6, 1)] * 3)
FIELDS = {
    "recipe": st.sampled_from(get_args(Recipe)),
    "data": st.text(),
    "root": PATHS,
    "limit": COUNTS,
    "model": st.text(),
    "shortcut": st.sampled_from("AB"),
    "geometry": st.sampled_from(["caffe", "torchvision"]),
    "stem": st.sampled_from(["imagenet", "cifar"]),
    "width": st.floats(1e-6, 1e3),
    "se": st.builds(
        SE,
        reduction=COUNTS,
        site=st.sampled_from(get_args(Site)),
        squeeze=st.sampled_from(get_args(Squeeze)),
        gate=st.sampled_from(get_args(Gate)),
        bias=st.booleans(),
        stages=st.none() | st.lists(st.integers(1, 9), min_size=1).map(tuple),
    ),
    "ops": TEXTS.filter(lambda text: "/" not in text),
    "algorithm": st.sampled_from(get_args(Algorithm)),
    **dict.fromkeys(("size", "epochs", "batch_size", "accumulate", "log_every"), COUNTS),
    **dict.fromkeys(("crop", "cutout", "val", "seed", "threads"), SIZES),
    **dict.fromkeys(("lr", "weight_decay", "save_every"), NUMBERS),
    **dict.fromkeys(("warmup", "momentum", "label_smoothing"), FRACTIONS),
    "schedule": st.sampled_from(["cosine", "steps"]),
    **dict.fromkeys(("nesterov", "decay_all", "flip", "guard"), st.booleans()),
    "resized_crop": st.just(False),  # with True, test_resized_crop
    **dict.fromkeys(("mean", "std"), CHANNELS),
    "out": PATHS,
    "name": st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1
    ).filter(lambda name: name not in (".", "..")),
}
OPTIONAL = {"recipe", "root", "limit", "size", "mean", "std", "name"}


def test_the_strategies_name_every_field():
    assert FIELDS.keys() == {field.name for field in fields(TrainConfig)}
    assert {name for name in FIELDS if getattr(TrainConfig(), name) is None} == OPTIONAL


@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_a_round_trip_changes_no_field(tmp_path_factory, settings):
    config = TrainConfig(**settings)
    path = tmp_path_factory.getbasetemp() / "config.json"
    path.write_text(json.dumps({"config": to_dict(config)}, allow_nan=False))
    assert read_config(path) == config


@pytest.mark.parametrize("crop", [0, 4])
def test_resized_crop(crop):
    config = TrainConfig(resized_crop=True, crop=crop)
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    with pytest.raises(
        ValueError, match="^train: crop is 2 and resized_crop is True, expected one"
    ):
        replace(config, crop=2)
    with pytest.raises(TypeError, match="resized_crop is 1, expected True or False"):
        TrainConfig(resized_crop=1)


def test_an_integer_is_a_number():
    assert from_dict({"lr": 1, "mean": [1, 0, 1]}) == TrainConfig(lr=1.0, mean=(1.0, 0.0, 1.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speed": 3}, "has speed, which this version of minise does not know"),
        ({"epoch": 3}, "has epoch, which .* does not know: did you mean epochs"),
        ({"\x1b[31m": 3}, r"has '\\x1b\[31m', which"),
        ({"se": {"ratio": 4}}, "has se.ratio, which"),
        ({"epochs": "3"}, ": epochs is '3', expected an integer"),
        ({"epochs": 3.0}, ": epochs is 3.0, expected an integer"),
        ({"epochs": True}, ": epochs is True, expected an integer"),
        ({"epochs": None}, ": epochs is None, expected an integer"),
        ({"lr": "0.1"}, ": lr is '0.1', expected a number"),
        ({"lr": True}, ": lr is True, expected a number"),
        ({"lr": [0.1]}, r": lr is \[0.1\], expected a number"),
        ({"flip": 1}, ": flip is 1, expected true or false"),
        ({"data": 10}, ": data is 10, expected a string"),
        ({"model": None}, ": model is None, expected a string"),
        ({"ops": []}, r": ops is \[\], expected a string"),
        ({"root": 3}, ": root is 3, expected the path of a folder as a string"),
        ({"out": None}, ": out is None, expected the path"),
        ({"shortcut": "C"}, ": shortcut is 'C', expected one of A, B"),
        ({"schedule": 5}, ": schedule is 5, expected a string"),
        ({"recipe": "quik"}, ": recipe is 'quik', expected one of quick"),
        ({"mean": [0.5, 0.5]}, r": mean is \[0.5, 0.5\], expected 3 values"),
        ({"mean": 0.5}, ": mean is 0.5, expected 3 values"),
        ({"std": [0.5, 0.5, "x"]}, r": std\[2\] is 'x', expected a number"),
        ({"se": 4}, ": se is 4, expected an object of settings by name"),
        ({"se": {"reduction": "4"}}, ": se.reduction is '4', expected an integer"),
        ({"se": {"gate": "elu"}}, ": se.gate is 'elu', expected one of sigmoid"),
        ({"se": {"reduction": 0}}, ": SE: reduction is 0, expected at least 1"),
        ({"lr": -1}, ": lr is -1, expected a number from 0 to 1e6"),
        ({"lr": 1e400}, ": lr is inf, expected a number from 0 to 1e6"),
        ({"epochs": 0}, ": epochs is 0, expected at least 1"),
        ([], r": the content is \[\], expected an object"),
    ],
    ids=str,
)
def test_settings_of_a_file_that_are_refused(settings, message, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"config": settings}).replace("Infinity", "1e400"))
    for where, read in (("config", lambda: from_dict(settings)), (path, lambda: read_config(path))):
        with pytest.raises(
            (ValueError, TypeError), match=f"^{re.escape(str(where))}.*{message}"
        ) as e:
            read()
        assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a run's config.json: JSONDecodeError"),
        ("[]", "is not a run's config.json"),
        ("3", "is not a run's config.json"),
        ("{}", "is not a run's config.json: KeyError"),
        ('{"config": {"lr": NaN}}', "is not a run's config.json: .*NaN is not JSON"),
        ('{"config": {}, "versions": 3}', "is not a run's config.json"),
        (b"\xff\xfe" * 999, "is not a run's config.json: UnicodeDecodeError.{,90}: pass the run"),
        ("[" * 100_000, "is not a run's config.json: RecursionError"),
        (
            '{"config": {}, "versions": {"minise": "99.0.1"}}',
            "versions.minise is '99.0.1', expected at most .*: upgrade minise",
        ),
        ('{"config": {"net": "Chain()"}}', "is of a custom net, expected .*: call train.run again"),
    ],
    ids=range(10),
)
def test_files_that_are_refused(content, message, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for argument in (path, str(path), tmp_path):
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}:? {message}"):
            read_config(argument)


def test_older_versions_and_none_are_read(tmp_path):
    for version in ("0.0.9", "0.1.0", "not installed"):
        content = {"config": {"seed": 3}, "versions": {"minise": version}}
        (tmp_path / "config.json").write_text(json.dumps(content))
        assert read_config(tmp_path) == TrainConfig(seed=3)


def test_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "none", tmp_path / "config.json"):
        with pytest.raises(
            FileNotFoundError, match="does not exist, expected the config.json of a"
        ):
            read_config(path)


def test_an_absolute_path_is_of_the_same_folder(tmp_path):
    """link/.. is the parent of the folder that the link leads to."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    for data, expected in (("link/../c", "a/c"), ("link", "link"), ("a/../link/d", "link/d")):
        config = with_absolute_paths(TrainConfig(data=f"{tmp_path}/{data}"))
        assert config.data == str(tmp_path / expected)


def test_absolute_paths(tmp_path, monkeypatch):
    """Names of data sets stay; MINISE_DATA becomes the root of CIFAR only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINISE_DATA", "cifar")
    for settings, expected in (
        (dict(data="photos"), dict(data=str(tmp_path / "photos"))),
        (dict(data="../photos"), dict(data=str(tmp_path.parent / "photos"))),
        (dict(data="./cifar10"), dict(data=str(tmp_path / "cifar10"))),
        (dict(data="/photos"), dict(data="/photos")),
        (dict(data="cifar10"), dict(data="cifar10", root=tmp_path / "cifar")),
        (dict(data="cifar100", root=Path("a")), dict(data="cifar100", root=tmp_path / "a")),
        (dict(data="shapes10"), dict(data="shapes10")),
        (dict(data="shapes10", out=Path("/b")), dict(data="shapes10", out=Path("/b"))),
        (dict(data="~/photos"), dict(data=str(Path.home() / "photos"))),
    ):
        default = TrainConfig(out=tmp_path / "runs")
        assert with_absolute_paths(TrainConfig(**settings)) == replace(default, **expected)
    monkeypatch.delenv("MINISE_DATA")
    assert with_absolute_paths(TrainConfig()).root is None
