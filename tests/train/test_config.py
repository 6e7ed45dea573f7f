"""Settings: round trips through JSON, old names, and messages."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minise.nn import SE
from minise.train.config import TrainConfig, from_dict, read_config, to_dict

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


def test_unknown_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="config has speed, which this version"):
        from_dict({"speed": 3})
    path = tmp_path / "config.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"config.json is not a run's config.json"):
        read_config(path)
