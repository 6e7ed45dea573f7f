"""The article's values from committed results: pairs of runs, gates, the bug that trains."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from minise import models
from minise.analysis.cost import cost_of
from minise.analysis.gates import CLOSED, OPEN
from minise.analysis.intervals import Mean, half_width, mean_interval
from minise.site.measurements.record import read_result
from minise.site.wording import NO_BREAK, POINTS, interval, percent, signed, word

CONFIDENCE = 0.95  # of every interval
PAIRS_TO_COME = (5, 10, 20)  # numbers of pairs whose interval the article predicts
STEP_SHOWN = 17  # whose loss the article quotes
HALF = 0.5  # gates of two images that differ by more are counted
LOSS_REACHED = 0.1  # the article counts the steps until the loss is below


def check_claims() -> None:
    """Test what the text says about the results, in words.

    Raises
    ------
    ValueError
        If a statement does not hold.
    """
    differences = mean_interval(list(paired_differences(read_result("pairs")).values()))
    runs = read_result("bug_that_trains")["runs"]
    shown = {k: [run[k][STEP_SHOWN - 1] for run in runs] for k in ("right", "wrong")}
    behind = mean_interval([w - r for w, r in zip(shown["wrong"], shown["right"], strict=True)])
    routes = [list(run["routes"].values()) for run in runs]
    blocks = read_result("gates")["blocks"]
    shares = [block["class_share"] for block in blocks]
    stages = [mean_interval(stage).mean for stage in _by_stage(blocks)]
    enough = half_width(differences.deviation, PAIRS_TO_COME[1])
    statements = {
        "the interval of the differences contains zero": differences.low < 0 < differences.high,
        "SE wins on average, and more pairs would show it": differences.mean > enough,
        "the net with the mistake is behind": behind.low > 0,
        "another seed makes more difference": mean_interval(shown["right"]).deviation > behind.mean,
        "both learn the images": max(run["wrong"][-1] for run in runs) < LOSS_REACHED,
        "every block is far above chance": min(shares) > 3 * _most(blocks, "null_share"),
        "the share is largest in the last block": max(shares) == shares[-1],
        "later stages have larger shares": sorted(stages) == stages,
        "the share goes up and down": sorted(shares) != shares,
        "a gate is mostly a constant": _most(blocks, "deviation_images") < 0.1,
        "hardly any gate is saturated": _most(blocks, "open") + _most(blocks, "closed") < 0.05,
        "the gate route is weaker on larger maps": all(sorted(row) == row for row in routes),
    }
    for statement, holds in statements.items():
        if not holds:
            raise ValueError(
                f"article: the text says that {statement}, which the results do not show: correct "
                "the text in tutorials/article.md"
            )


def pairs() -> dict[str, str]:
    """Return the comparison of the plain net with its SE twin."""
    result = read_result("pairs")
    by_kind = {kind: _by_seed(result["runs"], kind) for kind in ("plain", "se")}
    differences = list(paired_differences(result).values())
    mean = mean_interval(differences)
    low, high = deviation_interval(mean)
    lines = ["| seed | plain | SE | difference, points |", "|---|---|---|---|"]
    for seed, difference in paired_differences(result).items():
        plain, se = (by_kind[kind][seed]["test_accuracy"] for kind in ("plain", "se"))
        cells = (str(seed), percent(plain, 2), percent(se, 2), signed(difference))
        lines.append(f"| {' | '.join(cells)} |")
    texts = {
        "count": word(len(differences)),
        "table": "\n".join(lines),
        "mean": signed(mean.mean),
        "interval": interval(mean),
        "deviation": f"{mean.deviation:.2f}",
        "deviation_low": f"{low:.2f}",
        "deviation_high": f"{high:.2f}",
        "won": word(sum(difference > 0 for difference in differences)),
        "epochs": word(result["settings"]["epochs"]),
        "confidence": percent(CONFIDENCE),
    }
    for k, count in enumerate(PAIRS_TO_COME, 1):
        texts[f"more_{k}"] = word(count)
        texts[f"half_{k}"] = f"{half_width(mean.deviation, count):.2f}"
    return _named("pairs", texts)


def paired_differences(result: dict[str, Any]) -> dict[int, float]:
    """Return SE minus plain by seed: the difference of the test accuracies, in points."""
    plain, se = (_by_seed(result["runs"], kind) for kind in ("plain", "se"))
    return {
        seed: POINTS * (se[seed]["test_accuracy"] - plain[seed]["test_accuracy"])
        for seed in sorted(plain)
    }


def deviation_interval(mean: Mean) -> tuple[float, float]:
    """Return the interval of 95 % for the true standard deviation behind three values.

    2 (deviation / true deviation)^2 has a chi^2 distribution with 2 degrees of freedom, which is
    exponential: its quantile for p is -2 ln(1 - p).

    Raises
    ------
    ValueError
        If there are more or fewer than three values.
    """
    if mean.n != 3:
        raise ValueError(f"article: pairs has {mean.n} pairs, expected 3: use tables of chi^2")
    low, high = (mean.deviation / math.sqrt(-math.log(p)) for p in (0.025, 0.975))
    return low, high


def _by_seed(runs: Sequence[dict[str, Any]], kind: str) -> dict[int, dict[str, Any]]:
    return {run["seed"]: run for run in runs if run["kind"] == kind}


def gates() -> dict[str, str]:
    """Return what the gates of the trained net do, by block."""
    result = read_result("gates")
    blocks = result["blocks"]
    shares = [block["class_share"] for block in blocks]
    texts = {
        "seed": str(result["settings"]["seed"]),
        "accuracy": percent(result["accuracy"], 2),
        "images": f"{result['settings']['images']:,}",
        "permutations": str(result["settings"]["permutations"]),
        "blocks": word(len(blocks)),
        "share_lowest": percent(min(shares)),
        "share_highest": percent(max(shares)),
        "null_largest": percent(_most(blocks, "null_share"), 1),
        "deviation_low": f"{min(block['deviation_images'] for block in blocks):.2f}",
        "deviation_high": f"{_most(blocks, 'deviation_images'):.2f}",
        "mean_low": f"{min(block['mean'] for block in blocks):.2f}",
        "mean_high": f"{_most(blocks, 'mean'):.2f}",
        "open": f"{OPEN:g}",
        "closed": f"{CLOSED:g}",
        "open_most": percent(_most(blocks, "open"), 1),
        "closed_most": percent(_most(blocks, "closed"), 1),
    }
    for k, stage in enumerate(_by_stage(blocks), 1):
        texts[f"stage_{k}"] = percent(mean_interval(stage).mean)
    return _named("gates", texts)


def _most(blocks: Sequence[dict[str, Any]], name: str) -> float:
    return float(max(block[name] for block in blocks))


def _by_stage(blocks: Sequence[dict[str, Any]]) -> list[list[float]]:
    """Return the shares of the blocks, by the first part of their names."""
    stages: dict[str, list[float]] = {}
    for block in blocks:
        stages.setdefault(block["layer"].partition(".")[0], []).append(block["class_share"])
    return list(stages.values())


def bug() -> dict[str, str]:
    """Return the measurements of training without the gate route of dx."""
    result = read_result("bug_that_trains")
    runs, settings = result["runs"], result["settings"]
    right, wrong = (
        mean_interval([run[k][STEP_SHOWN - 1] for run in runs]) for k in ("right", "wrong")
    )
    behind = mean_interval(
        [run["wrong"][STEP_SHOWN - 1] - run["right"][STEP_SHOWN - 1] for run in runs]
    )
    lag = mean_interval([_steps(run["wrong"]) - _steps(run["right"]) for run in runs])
    cosine = mean_interval([run["cosine"] for run in runs])
    error = mean_interval([run["error"] for run in runs])
    texts = {
        "seeds": word(len(runs)),
        "images": str(settings["images"]),
        "steps": str(settings["steps"]),
        "cosine": f"{cosine.mean:.3f}",
        "cosine_lowest": f"{min(run['cosine'] for run in runs):.3f}",
        "error": percent(error.mean),
        "error_interval": f"{POINTS * error.low:.1f} to {POINTS * error.high:.1f}{NO_BREAK}%",
        "step": str(STEP_SHOWN),
        "right": f"{right.mean:.2f}",
        "wrong": f"{wrong.mean:.2f}",
        "behind": signed(behind.mean, 3),
        "behind_interval": interval(behind, 3),
        "behind_count": word(
            sum(run["wrong"][STEP_SHOWN - 1] > run["right"][STEP_SHOWN - 1] for run in runs)
        ),
        "loss_reached": f"{LOSS_REACHED:g}",
        "lag": f"{lag.mean:.1f}",
        "lag_interval": f"{lag.low:.1f} to {lag.high:.1f}",
        "start": f"{mean_interval([run['right'][0] for run in runs]).mean:.1f}",
        "end_right": f"{mean_interval([run['right'][-1] for run in runs]).mean:.3f}",
        "end_wrong": f"{mean_interval([run['wrong'][-1] for run in runs]).mean:.3f}",
    }
    sides = map_sides(settings["model"], runs[0]["routes"])
    for nth, layer in zip(("first", "second", "last"), runs[0]["routes"], strict=True):
        texts[f"side_{nth}"] = str(sides[layer])
        texts[f"route_{nth}"] = percent(mean_interval([run["routes"][layer] for run in runs]).mean)
    return _named("bug", texts)


def map_sides(model: str, layers: Iterable[str]) -> dict[str, int]:
    """Return the rows of the feature map of each SE block of a model, by the block's name."""
    rows = cost_of(models.build(model)).layers
    sides = {row.layer: row.shape[1] for row in rows if row.se}
    return {layer: sides[layer] for layer in layers}


def _steps(losses: Sequence[float]) -> int:
    """Return the number of steps until the loss is below LOSS_REACHED."""
    return next(k for k, loss in enumerate(losses) if loss < LOSS_REACHED)


def two_images() -> dict[str, str]:
    """Return the facts about two images with different gates."""
    result = read_result("two_images")
    first, second = result["images"]
    last = [list(image["gates"].values())[-1] for image in result["images"]]
    texts = {
        "accuracy": percent(result["accuracy"], 1),
        "count": str(result["settings"]["images"]),
        "class_1": first["class"],
        "class_2": second["class"],
        "index_1": str(first["index"]),
        "index_2": str(second["index"]),
        "flips": str(sum(abs(a - b) > HALF for a, b in zip(*last, strict=True))),
        "channels": str(len(last[0])),
        "distance": f"{result['distance']:.1f}",
        "median_distance": f"{result['median_distance']:.1f}",
    }
    return _named("two", texts)


def _named(prefix: str, texts: dict[str, str]) -> dict[str, str]:
    return {f"{prefix}_{name}": text for name, text in texts.items()}


PARTS: tuple[Callable[[], dict[str, str]], ...] = (pairs, gates, two_images, bug)
