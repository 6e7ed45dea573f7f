"""Tables 10 to 16 of the paper: variants of SE-ResNet-50."""

from typing import Any

from minise.analysis.conventions import (
    macs_of_layers,
    macs_with_gates,
    parameters,
    parameters_and_statistics,
)
from minise.analysis.paper.declare import PaperTable, Printed, Reading, Row
from minise.analysis.paper.imagenet import RESNET50, SE_RESNET50

NET = SE_RESNET50.but(bias=False)  # section 6: the SE blocks of the ablations have no biases
CONVENTION = "Parameters with running statistics, SE blocks without biases (section 6)."
ONLY_WITH_STATISTICS = "rounds to the paper's number only with running statistics"
WITHOUT = (Reading("without them", parameters),)


def _parameters(text: str = "", because: str = "", *readings: Reading) -> Printed:
    """Return a number of parameters, which the paper prints in millions."""
    return Printed(parameters_and_statistics, text, because=because, readings=readings)


def _macs(text: str = "") -> Printed:
    """Return a number of MACs, which the paper prints in "GFLOPs"."""
    return Printed(macs_with_gates, text, "G")


def _counted(label: str, errors: str, **settings: Any) -> Row:
    """Return a row for which the paper prints errors only."""
    return Row(label, NET.but(**settings), errors, (_parameters(),))


PLAIN = Row(
    "ResNet-50",
    RESNET50,
    "23.30/6.55",
    (Printed(macs_of_layers, "3.86", "G"), _parameters("25.6")),
)
STANDARD = Row("SE", NET, "22.28/6.03", (_macs("3.87"), _parameters("28.1")))

REDUCTION = PaperTable(
    "Table 10: SE-ResNet-50 at different reduction ratios r",
    (
        Row(
            "r = 2",
            NET.but(reduction=2),
            "22.29/6.00",
            (
                _parameters(
                    "45.7",
                    "rounds to the paper's number only without biases",
                    Reading("with them", net=NET.but(reduction=2, bias=True)),
                ),
            ),
        ),
        Row(
            "r = 4",
            NET.but(reduction=4),
            "22.25/6.09",
            (_parameters("35.7", ONLY_WITH_STATISTICS, *WITHOUT),),
        ),
        Row(
            "r = 8",
            NET.but(reduction=8),
            "22.26/5.99",
            (
                _parameters(
                    "30.7",
                    "agrees only with biases in the SE blocks, unlike the row of r = 2; the paper "
                    "is not consistent here",
                    Reading("with them", net=NET.but(reduction=8, bias=True), fits=True),
                ),
            ),
        ),
        Row("r = 16", NET, "22.28/6.03", (_parameters("28.1"),)),
        Row("r = 32", NET.but(reduction=32), "22.72/6.20", (_parameters("26.9"),)),
        Row("original", RESNET50, "23.30/6.55", (_parameters("25.6"),)),
    ),
    (CONVENTION,),
)

SQUEEZE = PaperTable(
    "Table 11: squeeze operators in SE-ResNet-50",
    (
        _counted("Max", "22.57/6.09", squeeze="max"),
        _counted("Avg", "22.28/6.03"),
    ),
)

GATE = PaperTable(
    "Table 12: excitation operators in SE-ResNet-50",
    (
        _counted("ReLU", "23.47/6.98", gate="relu"),
        _counted("Tanh", "23.00/6.38", gate="tanh"),
        _counted("Sigmoid", "22.28/6.03"),
    ),
)


def _stage(stage: int, errors: str, printed: Printed) -> Row:
    return Row(f"SE Stage {stage}", NET.but(stages=(stage,)), errors, (_macs("3.86"), printed))


STAGES = PaperTable(
    "Table 13: SE blocks at one stage of ResNet-50",
    (
        PLAIN,
        _stage(2, "23.03/6.48", _parameters("25.6")),
        _stage(3, "23.04/6.32", _parameters("25.7")),
        _stage(4, "22.68/6.22", _parameters("26.4", ONLY_WITH_STATISTICS, *WITHOUT)),
        Row("SE All", NET, "22.28/6.03", (_macs("3.87"), _parameters("28.1"))),
        Row("SE Stage 5 (ours)", NET.but(stages=(5,)), "", (_macs(), _parameters())),
        Row("SE Stages 2-4 (ours)", NET.but(stages=(2, 3, 4)), "", (_macs(), _parameters())),
    ),
    (CONVENTION, "The paper has no row for stage 5, which has most of the parameters of SE."),
)

SITES = PaperTable(
    "Table 14: sites of the SE block in the units of ResNet-50",
    (
        _counted("SE", "22.28/6.03"),
        _counted("SE-PRE", "22.23/6.00", site="pre"),
        _counted("SE-POST", "22.78/6.35", site="post"),
        _counted("SE-Identity", "22.20/6.15", site="identity"),
    ),
    ("The blocks of SE-PRE gate the inputs of units, which have fewer channels.",),
)

SITE_3X3 = PaperTable(
    "Table 15: SE blocks after the 3x3 convolutions of ResNet-50",
    (
        STANDARD,
        Row(
            "SE 3x3",
            NET.but(site="3x3"),
            "22.48/6.02",
            (_macs("3.86"), _parameters("25.8", ONLY_WITH_STATISTICS, *WITHOUT)),
        ),
    ),
    (CONVENTION,),
)

NO_SQUEEZE = PaperTable(
    "Table 16: SE-ResNet-50 without squeeze",
    (
        PLAIN,
        Row(
            "NoSqueeze",
            NET.but(squeeze="none"),
            "22.93/6.39",
            (_macs("4.27"), _parameters("28.1")),
        ),
        STANDARD,
    ),
    (CONVENTION,),
)
