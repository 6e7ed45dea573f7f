"""MobileNet: names of parameters, and messages; test_stages.py has counts and sizes."""

import pytest

from tests.models.zoo import on_shapes


def test_names_are_timms():
    names = on_shapes("se_mobilenet").named_parameters()
    shapes = {name: array.shape for name, array in names.items()}
    assert shapes["conv_stem.weight"] == (32, 3, 3, 3)
    assert shapes["bn1.weight"] == (32,)
    assert shapes["blocks.0.0.conv_dw.weight"] == (32, 1, 3, 3)
    assert shapes["blocks.3.5.bn1.weight"] == (512,)
    assert shapes["blocks.4.0.conv_pw.weight"] == (1024, 512, 1, 1)
    assert shapes["blocks.4.1.bn2.weight"] == (1024,)
    assert shapes["blocks.4.1.se.fc.0.weight"] == (64, 1024)
    assert shapes["classifier.weight"] == (1000, 1024)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(width=0.3), "width is 0.3, which leaves 9.6 of 32 channels.*fits is 0.3125"),
        (dict(stages=(1,)), "stages is .1,., expected stages from 2 to 6"),
        (dict(site="3x3"), "site is '3x3', expected one of standard"),
    ],
)
def test_messages(settings, message):
    with pytest.raises(ValueError, match=message):
        on_shapes("se_mobilenet", **settings)
