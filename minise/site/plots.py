"""The article's figures, drawn from the committed results."""

from typing import Any

import numpy as np

from minise import data
from minise.analysis.intervals import mean_interval
from minise.pictures.svg import WIDTH, Picture
from minise.site.charts import RIGHT, Chart
from minise.site.evidence import paired_differences
from minise.site.measurements.record import read_result
from minise.site.wording import signed

PLAIN, SE = "forward", "backward"  # roles of colours: the right run and the wrong one, too
IMAGE = 104  # size of an image in the figure of two images
TOP_OF_IMAGES, ROW = 54, 148


def differences() -> Picture:
    """Return the paired differences of test accuracy, and their mean with its interval."""
    values = paired_differences(read_result("pairs"))
    mean = mean_interval(list(values.values()))
    chart = Chart(250, (0, len(values) + 1.6), (-0.5, 1.0))
    chart.axes("", "SE minus plain, points of test accuracy", _ticks((-0.5, 0, 0.5, 1.0), _signed))
    chart.line([(0, 0), (len(values) + 1.6, 0)], "soft", thick=1.5)
    for k, value in enumerate(values.values(), 1):
        chart.point(k, value, PLAIN)
    at = len(values) + 1
    chart.bar(at, mean.low, mean.high, SE)
    chart.point(at, mean.mean, SE, radius=6)
    labels = [(k, f"seed {seed}") for k, seed in enumerate(values, 1)]
    chart.xticks([*labels, (at, "mean, 95 %")])
    texts = ", ".join(f"seed {seed}: {signed(value)}" for seed, value in values.items())
    return chart.picture(
        "Difference of test accuracy, SE minus plain, by seed",
        f"{texts}. Mean {signed(mean.mean)}, interval {signed(mean.low)} to {signed(mean.high)}.",
    )


def class_shares() -> Picture:
    """Return the share of the gates' variance between classes, by block, with its null."""
    blocks = read_result("gates")["blocks"]
    top = 1.1 * max(block["class_share_high"] for block in blocks)
    chart = Chart(290, (0.3, len(blocks) + 0.7), (0, top), bottom=72)
    steps = np.arange(0, top, 0.1 if top > 0.25 else 0.05)
    chart.axes(
        "SE block, from the first to the last",
        "variance between classes (η²)",
        _ticks(steps, lambda share: f"{100 * share:.0f} %"),
    )
    for k, block in enumerate(blocks, 1):
        chart.line([(k - 0.3, block["null_share"]), (k + 0.3, block["null_share"])], "ink", thick=2)
        chart.bar(k, block["class_share_low"], block["class_share_high"], SE)
        chart.point(k, block["class_share"], SE)
    chart.xticks([(k, str(k)) for k in range(1, len(blocks) + 1)])
    texts = ", ".join(f"{block['layer']} {100 * block['class_share']:.0f} %" for block in blocks)
    return chart.picture(
        "How much of the variance of the gates lies between classes, by block",
        f"Median channel: {texts}. With permuted labels below "
        f"{100 * max(block['null_share'] for block in blocks):.1f} %.",
    )


def class_means(position: int) -> Picture:
    """Return the mean gates by class in the last block of a stage, channels in order of size."""
    result = read_result("gates")
    layer, means = list(result["class_means"].items())[position]
    by_class = np.array(means)
    by_class = by_class[:, np.argsort(by_class.mean(axis=0))]
    channels = by_class.shape[1]
    chart = Chart(200, (0, channels - 1), (0, 1), bottom=36)
    chart.axes(
        f"the {channels} channels, by mean gate", f"mean gate, {layer}", _ticks((0, 0.5, 1), _plain)
    )
    for row in by_class:
        chart.line(list(enumerate(row)), SE, thick=1)
    widest = int(np.ptp(by_class, axis=0).argmax())
    return chart.picture(
        f"Mean gates of {layer} by class, one line for each class",
        f"The largest difference of two classes is {np.ptp(by_class, axis=0)[widest]:.2f}, the "
        f"median one over channels {np.median(np.ptp(by_class, axis=0)):.2f}.",
    )


def two_images() -> Picture:
    """Return two images of shapes10 with their gates in the last SE block."""
    result = read_result("two_images")
    drawn = data.shapes10(result["settings"]["split"], n=result["settings"]["images"])
    layer = list(result["images"][0]["gates"])[-1]
    rows = [np.array(image["gates"][layer]) for image in result["images"]]
    order = np.argsort(-rows[0])
    chart = Chart(TOP_OF_IMAGES + 2 * ROW, (0, 1), (0, 1))
    left, width = IMAGE + 2 * RIGHT, WIDTH - IMAGE - 3 * RIGHT
    chart.text(left, 24, f"gates of {layer}", "soft", size=14)
    for k, (image, row) in enumerate(zip(result["images"], rows, strict=True)):
        y, step = TOP_OF_IMAGES + k * ROW, width / len(row)
        chart.image(RIGHT, y, IMAGE, drawn.images[image["index"]], image["class"])
        chart.text(RIGHT, y + IMAGE + 20, image["class"], "ink")
        chart.box(left, y, width, IMAGE, "none", "rule", radius=0)
        for position, gate in enumerate(row[order]):
            height = gate * IMAGE
            chart.box(
                left + position * step,
                y + IMAGE - height,
                step,
                height,
                SE,
                "paper",
                radius=0,
                thick=0.5,
            )
        chart.text(left - 6, y + 10, "1", "soft", anchor="end", size=12)
        chart.text(left - 6, y + IMAGE, "0", "soft", anchor="end", size=12)
    first, second = (image["class"] for image in result["images"])
    return chart.picture(
        "Two images and their gates in the last SE block",
        f"A {first} and a {second}. The gates differ by more than one half in "
        f"{int((np.abs(rows[0] - rows[1]) > 0.5).sum())} of {len(order)} channels.",
    )


def losses() -> Picture:
    """Return the mean losses with the right and with the wrong dx, and their intervals."""
    result = read_result("bug_that_trains")
    steps = result["settings"]["steps"]
    chart = Chart(290, (1, steps), (0, 2.6), bottom=50)
    chart.axes("step", "training loss", _ticks((0, 0.5, 1, 1.5, 2, 2.5), _plain))
    chart.xticks([(k, str(k)) for k in (1, *range(10, steps + 1, 10))])
    for name, role in (("right", PLAIN), ("wrong", SE)):
        means = [
            mean_interval(row) for row in zip(*(run[name] for run in result["runs"]), strict=True)
        ]
        chart.band(range(1, steps + 1), [m.low for m in means], [m.high for m in means], role)
        chart.line([(k, m.mean) for k, m in enumerate(means, 1)], role)
    for k, (text, role) in enumerate((("both routes", PLAIN), ("gate route left out", SE))):
        chart.text(WIDTH - RIGHT, 62 + 22 * k, text, f"{role} strong", anchor="end")
    return chart.picture(
        "Training loss with and without the gate route of dx",
        f"Means over {len(result['runs'])} seeds, with their intervals. Both losses fall at nearly "
        "the same pace; without the gate route the loss is slightly higher.",
    )


def _ticks(values: Any, label: Any) -> list[tuple[float, str]]:
    return [(float(value), label(value)) for value in values]


def _signed(value: float) -> str:
    return signed(value, 1) if value else "0"


def _plain(value: float) -> str:
    return f"{value:g}"
