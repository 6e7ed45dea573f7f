"""Select the tests of an op, a subpackage or a lesson, for `pytest --of=NAME`."""

import re
from difflib import get_close_matches
from pathlib import Path

TESTS = Path(__file__).parent
LESSONS = sorted(path.stem for path in (TESTS.parent / "tutorials").glob("[0-9]*.py"))


def pattern(name):
    """Return a regular expression that matches the node ids of the tests of `name`.

    Parameters
    ----------
    name : str
        An op, by its full name or its short name in `minise walk` (squeeze_excite, se); a
        subpackage, by its folder of tests (nn, jit); or a lesson (5, lesson5, 05_batch_norm).

    Raises
    ------
    ValueError
        If it is none of them; the message lists the nearest names.
    """
    patterns = {**of_lessons(), **of_subpackages(), **of_ops()}
    key = name.lower()
    if number := re.fullmatch(r"(?:lesson[-_ ]?)?(\d+)", key):
        key = f"{int(number[1]):02}"
    if key not in patterns:
        close = get_close_matches(key, patterns, n=4, cutoff=0.5) or patterns
        raise ValueError(
            f"--of is {name!r}, expected an op, a subpackage or a lesson: try {', '.join(close)}"
        )
    return patterns[key]


def of_ops():
    """Return patterns of ops: the op's name as a word in the id, or the file of its family."""
    from minise.ops import reference
    from minise.walk.cases import ALIASES, OPS

    patterns = {}
    for op in OPS:
        family = getattr(reference, f"{op}_forward").__module__.rpartition(".")[2]
        alone = rf"(?<![a-z0-9_]){op}(?:_forward|_backward)?(?![a-z0-9_])"
        patterns[op] = rf"^tests/ops/test_{family}\.py::|{alone}"
    return {**patterns, **{name: patterns[op] for name, op in ALIASES.items()}}


def of_subpackages():
    """Return patterns of subpackages: its folder of tests, and its docstring examples."""
    folders = {path.parent for path in TESTS.rglob("test_*.py")} - {TESTS}
    return {path.name: rf"^(?:tests|minise)/(?:\w+/)*{path.name}/" for path in folders}


def of_lessons():
    """Return patterns of lessons: tests of tutorials with the lesson's number as a parameter."""
    patterns = {}
    for stem in LESSONS:
        patterns[stem] = patterns[stem[:2]] = rf"^tests/tutorials/.*[\[-]{stem[:2]}[_\]-]"
    return patterns
