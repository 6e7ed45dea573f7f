"""SENet-154 (Table 8 and the appendix of the paper), and the files of the authors' trained nets."""

from minise.analysis.conventions import (
    bytes_of_release,
    macs_of_layers,
    macs_with_gates,
    macs_with_se_layers,
    parameters,
)
from minise.analysis.paper.declare import Net, PaperTable, Printed, Reading, Row
from minise.analysis.paper.imagenet import CAFFE

SENET = Net("se_senet154", CAFFE)
RELEASED = (  # of the authors' README: errors of nets trained anew, and sizes of files
    ("SE-BN-Inception", Net("se_bn_inception"), "23.62/7.04", "46"),
    ("SE-ResNet-50", Net("se_resnet50", CAFFE), "22.37/6.36", "107"),
    ("SE-ResNet-101", Net("se_resnet101", CAFFE), "21.75/5.72", "189"),
    ("SE-ResNet-152", Net("se_resnet152", CAFFE), "21.34/5.54", "256"),
    ("SE-ResNeXt-50", Net("se_resnext50_32x4d", CAFFE), "20.97/5.54", "105"),
    ("SE-ResNeXt-101", Net("se_resnext101_32x4d", CAFFE), "19.81/4.96", "187"),
    ("SENet-154", SENET, "18.68/4.47", "440"),
)
BEYOND = {
    "SE-ResNet-152": "0.02 MiB more would agree, such as the names and settings of the layers, "
    "which the file holds too",
}
SENET154 = PaperTable(
    "Tables 8 and 9: SENet-154; and the files of the authors' trained nets",
    (
        Row(
            "SENet-154, 224 px",
            SENET,
            "18.68/4.47",
            (
                Printed(
                    macs_with_gates,
                    "20.7",
                    "G",
                    "printed in Table 6 of arXiv:1807.11164; the SENet paper does not count",
                    (Reading("with SE's dense layers only", macs_with_se_layers, fits=True),),
                ),
                Printed(parameters),
            ),
        ),
        Row(
            "SENet-154, 320 px",
            SENET.but(size=320),
            "17.28/3.79",
            (Printed(macs_with_gates, unit="G"),),
        ),
        Row("trained at 320 px", SENET.but(size=320), "16.88/3.58", ()),
        Row(
            "without SE blocks (ours)",
            Net("senet154", CAFFE),
            "",
            (Printed(macs_of_layers, unit="G"), Printed(parameters)),
        ),
        *(
            Row(
                f"{label} file",
                net,
                errors,
                (Printed(bytes_of_release, size, "MiB", BEYOND.get(label, "")),),
            )
            for label, net, errors, size in RELEASED
        ),
    ),
    (
        "The sizes of files and the errors beside them are those of the README of "
        "https://github.com/hujie-frank/SENet: 4 bytes for each parameter and each running mean "
        "and variance, in units of 2**20 bytes.",
    ),
)
