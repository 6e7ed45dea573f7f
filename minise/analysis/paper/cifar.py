"""Tables 4 and 5 of the paper: nets for CIFAR, whose sizes are those of the original papers."""

from typing import Any

from minise.analysis.conventions import parameters
from minise.analysis.paper.declare import Net, PaperTable, Printed, Row


def _net(name: str, **settings: Any) -> Net:
    return Net(name, settings, 32)


def _rows() -> list[Row]:
    """Return four rows for each net: on CIFAR-10 and on CIFAR-100, plain and with SE blocks."""
    nets = (  # label, net, millions of parameters, errors on CIFAR-10 and on CIFAR-100
        ("ResNet-110", "preact_resnet110", "1.7", ("6.37", "5.21"), ("26.88", "23.85")),
        ("ResNet-164", "preact_resnet164", "1.7", ("5.46", "4.39"), ("24.33", "21.31")),
        ("WRN-16-8", "wrn_16_8", "11.0", ("4.27", "3.88"), ("20.43", "19.14")),
        ("Shake-Shake 26 2x96d", "shake_shake26_2x96d", "26.2", ("2.56", "2.12"), ()),
    )
    rows = []
    for label, name, size, *errors in nets:
        for classes, pair in zip((10, 100), errors, strict=True):
            for prefix, error in zip(("", "SE-"), pair, strict=False):
                net = _net(f"{prefix.lower().replace('-', '_')}{name}", num_classes=classes)
                printed = Printed(parameters, size if classes == 10 and not prefix else "")
                rows.append(Row(f"{prefix}{label}, C{classes}", net, error, (printed,)))
    return rows


def _first_resnets() -> list[Row]:
    """Return the ResNets of He et al., Table 6, with shortcuts without parameters."""
    nets = ((20, "8.75", "0.27"), (32, "7.51", "0.46"), (44, "7.17", "0.66"), (56, "6.97", "0.85"))
    return [
        Row(
            f"ResNet-{depth} (He), C10",
            _net(f"resnet{depth}", shortcut="A"),
            error,
            (Printed(parameters, size),),
        )
        for depth, error, size in (*nets, (110, "6.43", "1.7"))
    ]


NOT_BUILT = Row("Shake-Even 29 2x4x64d, C100", None, "15.85, SE 15.41")
CIFAR = PaperTable(
    "Tables 4 and 5: nets for CIFAR-10 (C10) and CIFAR-100 (C100)",
    (*_rows(), NOT_BUILT, *_first_resnets()),
    (
        "The SENet paper prints errors only. The numbers of parameters are those of the papers "
        "that introduced the nets: arXiv:1603.05027, 1605.07146, 1705.07485, and for the rows "
        '"He", which are not in the SENet paper, 1512.03385.',
        "The reduction is not stated for CIFAR; ours is 16, with biases.",
        "Errors of Shake-Shake are those with Cutout. minise has no Shake-Even 29 2x4x64d.",
    ),
    errors_of="error, %",
)
