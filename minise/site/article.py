"""The values of the article in tutorials/article.md: numbers, figures and frames by placeholder.

The text has `{{name}}` where a number, a figure or a walk stands, and no number of its own. Small
numbers are computed here, by the reference ops; those of long runs come from the committed results
in minise/site/results. Where the text draws a conclusion, `check_claims` tests it: unless the
results show it, the article is not built.
"""

from collections.abc import Callable

from minise import models
from minise.analysis.cost import cost_of
from minise.pictures.gating import se_block
from minise.pictures.svg import Picture
from minise.site import by_hand, evidence, plots
from minise.site.charts import figure
from minise.site.wording import percent
from minise.walk.page import page

WALK = "by_hand.html"  # the walk of the case by hand, in the folder walks/ of the site
WALK_STEPS = ("z", "dh", "dx")  # shown in the article
REDUCTION = 4

CAPTIONS: dict[str, tuple[Callable[[], Picture], str]] = {
    "se_block": (
        se_block,
        "Forward (green) and backward (violet). The input goes two ways to the output, so its "
        "gradient comes back two ways.",
    ),
    "differences": (
        plots.differences,
        "Each point is a pair: the same seed, without and with SE blocks. Right: the mean and its "
        "interval.",
    ),
    "class_shares": (
        plots.class_shares,
        "Points: the median channel of a block; bars: the middle half of its channels. The dark "
        "strokes, close to the axis, are what permuted labels reach.",
    ),
    "class_means_first": (
        lambda: plots.class_means(0),
        "The last block of the first stage: mean gates of the classes, one line for each class.",
    ),
    "class_means_last": (
        lambda: plots.class_means(-1),
        "The last block of the net. Where the lines part, the gate depends on the class.",
    ),
    "two_images": (
        plots.two_images,
        "Two images and their gates. Each bar is a channel, in the same order in both rows.",
    ),
    "losses": (
        plots.losses,
        "Mean loss over the seeds. Bands, hardly wider than the lines: intervals of the means.",
    ),
}


def values() -> dict[str, str]:
    """Return the text of every placeholder, as Markdown, LaTeX or HTML.

    Raises
    ------
    ValueError
        If a gradient of the case by hand disagrees with forward, if one of its numbers is no
        simple fraction, or if the results do not show what the text says.
    """
    evidence.check_claims()
    by_hand.check_claims()
    texts = {f"figure_{name}": figure(draw(), text) for name, (draw, text) in CAPTIONS.items()}
    for part in (by_hand.numbers, by_hand.checks, costs, walk_frames, *evidence.PARTS):
        texts |= part()
    texts["citation"] = citation()
    return texts


def walks() -> dict[str, str]:
    """Return the pages that the frames show, by the name of the file in walks/."""
    return {WALK: page(by_hand.case())}


def walk_frames() -> dict[str, str]:
    """Return the frame of each step that the article shows, with a link for readers without."""
    return {f"walk_{name}": _frame(name) for name in WALK_STEPS}


def _frame(name: str) -> str:
    number = by_hand.step_number(name)
    return (
        f'<figure class="walk"><iframe loading="lazy" title="The step that computes {name}" '
        'style="width:100%;height:52rem;max-height:92vh;border:1px solid var(--rule)" '
        f'src="site:walks/{WALK}?embed#step-{number}"></iframe>'
        f'<figcaption><a href="site:walks/{WALK}#step-{number}">The step that computes {name}, '
        "on a page of its own</a></figcaption></figure>"
    )


def costs() -> dict[str, str]:
    """Return the share of the SE blocks in the costs of SE-ResNet-20."""
    cost = cost_of(models.build("se_resnet20", reduction=REDUCTION))
    return {
        "cost_parameters": percent(cost.se_parameters / (cost.parameters - cost.se_parameters), 1),
        "cost_macs": percent(cost.se_macs / (cost.macs - cost.se_macs), 1),
    }


def citation() -> str:
    """Return the text to cite the article."""
    from minise import __version__

    return (
        'The minise authors, "Squeeze-and-excitation,\nforward and backward", in: minise, '
        f"version {__version__},\ntutorials/article.md"
    )
