"""Fixtures: the outcomes of uninterrupted runs."""

import functools

import pytest

from tests.torture.kill import run
from tests.torture.runs import outcome, photos, python, train_arguments


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder of images."""
    return photos(tmp_path_factory.mktemp("photos") / "photos")


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """Return a function: the outcome of an uninterrupted `minise train` with options."""

    @functools.cache
    def outcome_of(**options):
        path = tmp_path_factory.mktemp("alone") / "run"
        life = run(python(train_arguments(data, path, **options)))
        assert life.status == 0, life
        return outcome(path)

    return outcome_of
