"""The lines of helpers that a line executes, and the reasons in the comments above lines."""

from minise.tracing.helpers import executed
from minise.tracing.instrument import Instrumented
from minise.tracing.source import reason_above


def commented(x, flag):
    """Return x doubled, with reasons."""
    # why if flag: The flag is on
    #      and the sentence goes on.
    # why: The flag is off.
    y = 2 * x
    # an ordinary comment
    z = _helped(y)
    return z  # why: beside a line is no reason


def _helped(y):
    # why: A helper has its own reason.
    return y


def test_reasons_are_read_from_the_comments_above_a_line():
    code = Instrumented(commented, file=__file__)
    first, second = code.lines[0].number, code.lines[1].number

    def reason(number, flag):
        return reason_above(code.file, number, lambda text: eval(text, {"flag": flag}))

    assert reason(first, True) == "The flag is on and the sentence goes on."
    assert reason(first, False) == "The flag is off."
    assert reason(second, True) == ""
    assert reason(second + 1, True) == ""
    (line,) = executed(code, code.lines[1], {"y": 3})
    assert (line.text, line.depth, line.evaluate("y + 1")) == ("return y", 0, 4)
