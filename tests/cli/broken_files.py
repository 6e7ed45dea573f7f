"""Files of a user's own that are wrong, each in one way: what they hold, and how commands end.

A row is the text of the file, the exit status of check, walk, train and profile, and words of the
one line on standard error. Where a file is run at all, the file and a line stand before the words.
"""

FORWARD = "def relu_forward(x):\n    return np.maximum(x, 0), x\n"
BACKWARD = "def relu_backward(dout, x):\n    return (dout * (x > 0),)\n"
IMPORT = "import numpy as np\n"
REFERENCE = "from minise.ops.reference import *\n"
LOADED, RUN = (2, 2, 2, 2), (1, 1, 1, 1)


def relu(forward="return np.maximum(x, 0), x", backward="return (dout * (x > 0),)"):
    """Return a file with a ReLU of these lines; forward's body begins at line 3, with x."""
    own = (
        f"def relu_forward(x):\n    {forward}\n",
        "def relu_backward(dout, cache):\n    x = cache\n",
    )
    return IMPORT + own[0] + own[1] + f"    {backward}\n"


# that cannot be imported
AT_IMPORT = {
    "syntax": ("def relu_forward(x:\n    return x\n", r"my_ops.py:1: SyntaxError: "),
    "indentation": ("def relu_forward(x):\nreturn x\n", "my_ops.py:2: IndentationError: "),
    "not UTF-8": (b"x = 1\n\n# caf\xe9\n", "my_ops.py:3: SyntaxError: byte 0xe9 is not UTF-8"),
    "not UTF-8 at once": (b"# caf\xe9\n", "my_ops.py:1: SyntaxError: .*save the file as UTF-8"),
    "unknown coding": (b"# -*- coding: klingon -*-\n", "my_ops.py:1: SyntaxError: .*klingon"),
    "null bytes": (b"x = 1\0\n", "my_ops.py:1: SyntaxError: byte 0x00 is not text"),
    "empty": ("", "my_ops.py has no op of minise's, expected functions such as relu_forward"),
    "missing module": (
        "import nonesuch\n",
        "my_ops.py:1: ModuleNotFoundError: .*nonesuch.*install",
    ),
    "missing name": ("from numpy import zeross\n", "my_ops.py:1: ImportError: .*zeross"),
    "error": ("import numpy as np\nnp.zeros(3)[7]\n", "my_ops.py:2: IndexError: "),
    "error in a function": (
        "def f(n):\n    return 1 / n\nf(0)\n",
        r"my_ops.py:2: ZeroDivisionError: division by zero \(in f\)",
    ),
    "error without words": ("assert False\n", "my_ops.py:1: AssertionError$"),
    "of many lines": ("raise ValueError('a\\n\\n\\x1b[31mb')\n", r"ValueError: a \\x1b\[31mb$"),
    "its own BaseException": (
        "class Stop(BaseException): pass\nraise Stop('now')\n",
        "my_ops.py:2: Stop: now",
    ),
    "sys.exit": ("import sys\nsys.exit(0)\n", "my_ops.py:2: the file ends Python .*__main__"),
    "recursion": ("def f(): f()\nf()\n", "my_ops.py:1: RecursionError: "),
    "a sibling with an error": ("import sibling\n", "sibling.py:2: NameError: "),
    "a sibling with a syntax error": ("import typo\n", "typo.py:1: SyntaxError: "),
    "a circular import": ("import circle\n", "circle.py:1: ImportError: cannot import name"),
    "no op": ("import numpy as np\nx = 1\n", "has no op of minise's"),
    "misspelt": (
        IMPORT + FORWARD.replace("forward", "foward") + BACKWARD,
        "my_ops.py:2: relu_foward is not a function of .* did you mean relu_forward\\?",
    ),
    "misspelt backward": (
        IMPORT + FORWARD + BACKWARD.replace("relu_backward", "relu_bakward"),
        "my_ops.py:4: relu_bakward .* did you mean relu_backward\\?",
    ),
    "an op of another name": (
        "def conv_forward(x): pass\ndef conv_backward(d, c): pass\n",
        "did you mean .*2d\\?; check conv by minise.gradcheck.check",
    ),
    "a class": (
        "class relu_forward: pass\n" + BACKWARD,
        "relu_forward is a class, expected a func",
    ),
    "None": (IMPORT + FORWARD + "relu_backward = None\n", "my_ops.py: relu_backward is None"),
    "a string": ("relu_forward = 'relu'\n" + BACKWARD, "relu_forward is of type str, expected a f"),
    "a generator": (
        IMPORT + FORWARD + BACKWARD.replace("return", "yield"),
        "my_ops.py:4: relu_backward is a generator function, .*write return, not yield",
    ),
    "async": (
        IMPORT + FORWARD + "async " + BACKWARD,
        "my_ops.py:4: relu_backward is a coroutine function, .*write def",
    ),
}

# that fail when they are run
AT_RUN = {
    "forward returns out only": (
        relu("return np.maximum(x, 0)"),
        "relu_forward returns an array, ",
    ),
    "forward returns three": (
        relu("return x, x, x"),
        "relu_forward returns a tuple of 3, expected",
    ),
    "forward returns nothing": (relu("np.maximum(x, 0), x"), "relu_forward returns None, expected"),
    "out is a list": (relu("return np.maximum(x, 0).tolist(), x"), "relu_forward returns as out a"),
    "out is None": (relu("return None, x"), "relu_forward returns as out None, expected an array"),
    "out of another shape": (relu("return x[:, :1], x"), r"as out an array of shape \(\d, 1"),
    "backward returns nothing": (relu(backward="dout * x"), "relu_backward returns None: is there"),
    "backward returns (None,)": (
        relu(backward="return (None,)"),
        "returns as dx None, expected an",
    ),
    "two gradients": (
        relu(backward="return dout, dout"),
        "returns 2 gradients, expected 1 grad.*dx",
    ),
    "of another shape": (
        relu(backward="return (dout.sum(),)"),
        r"as dx an array of shape \(\), exp",
    ),
    "its own cache's attribute": (
        relu(backward="return (dout * cache.mask,)"),
        r"my_ops.py:6: AttributeError: .*'mask' \(in relu_backward\)",
    ),
    "a name": (relu("return np.maximum(x, 0), y"), r"my_ops.py:3: NameError: .*'y'"),
    "an index": (relu(backward="return (dout * x[99],)"), "my_ops.py:6: IndexError: "),
    "a division": (
        relu("return x * (1 / 0), x"),
        "my_ops.py:3: ZeroDivisionError: division by zero",
    ),
    "a recursion": (relu("return relu_forward(x)"), "my_ops.py:3: RecursionError: "),
    "an assertion": (
        relu("assert x.ndim > 9, 'nine'"),
        r"my_ops.py:3: AssertionError: nine \(in re",
    ),
    "not implemented": (
        relu(backward="raise NotImplementedError"),
        "my_ops.py:6: NotImplementedErr",
    ),
    "sys.exit": (relu("raise SystemExit(0)"), r"my_ops.py:3: SystemExit: 0 \(in relu_forward\)"),
    "an import that is missing": (relu("import nonesuch"), "my_ops.py:3: ModuleNotFoundError: "),
    "shapes that do not fit": (
        relu("return x + np.ones(17), x"),
        "my_ops.py:3: ValueError: operands",
    ),
    "an array of another": (relu("return np.array([{}]), x"), "returns as out an array.*expected"),
    "another parameter": (
        IMPORT + FORWARD.replace("(x)", "(x, slope)") + BACKWARD,
        "my_ops.py:2: relu_forward takes slope, which has no default",
    ),
    "backward of three": (
        IMPORT + FORWARD + BACKWARD.replace("(dout, x)", "(dout, x, y)"),
        "my_ops.py:4: TypeError: .*missing 1 required positional argument: 'y'",
    ),
    "a forward without a backward": (
        IMPORT + FORWARD,
        "my_ops.py:2: relu_backward is missing, .* cannot use this cache .*: write relu_backward",
    ),
    "a backward without a forward": (
        IMPORT + BACKWARD.replace("x > 0", "x[0] > y"),
        r"my_ops.py:3: NameError: .*'y' .* \(in relu_backward\)",
    ),
    "a decorated one": (
        "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def g(*a):\n"
        "        return f(*a)\n    return g\n"
        + IMPORT
        + "@twice\n"
        + FORWARD.replace("x)", "x)", 1)
        + "@twice\n"
        + BACKWARD.replace("x > 0", "x > z"),
        r"my_ops.py:13: NameError: .*'z'",
    ),
}

# that are right but for their form: every command ends with 0
FORM = {
    "one array": relu(backward="return dout * (x > 0)"),
    "a list": relu(backward="return [dout * (x > 0)]"),
    "a dict": relu(backward="return {'dx': dout * (x > 0)}"),
    "forward returns a list": relu("return [np.maximum(x, 0), x]"),
    "float64 from float32": relu("return np.maximum(np.float64(x), 0), np.float64(x)"),
    "a cache that is a dict": relu(
        "return np.maximum(x, 0), {'x': x}", "return dout * (x['x'] > 0)"
    ),
    "any arguments": IMPORT
    + FORWARD.replace("(x)", "(*xs, **settings)").replace("return np", "x, = xs\n    return np")
    + BACKWARD,
    "a default too many": IMPORT + FORWARD.replace("(x)", "(x, slope=0.0)") + BACKWARD,
    "prints": IMPORT + "print('hello')\n" + FORWARD + BACKWARD,
    "a dataclass": "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    + IMPORT
    + "@dataclass\nclass Kept:\n    x: np.ndarray\n"
    + FORWARD.replace(", x\n", ", Kept(x)\n")
    + BACKWARD.replace("(x > 0)", "(x.x > 0)"),
}
