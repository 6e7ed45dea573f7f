"""Pieces of minise's own sources, so that a lesson shows the code that runs and no copy of it."""

from importlib.resources import files


def piece(file: str, start: str) -> str:
    """Return a function or a kernel as it stands in a file, from its first line to its last.

    Parameters
    ----------
    file : str
        Below the package, such as "ops/cuda/squeeze_excite.cu".
    start : str
        How the first line begins, or the comment above it. It stands once in the file.

    Returns
    -------
    str
        That line if it ends with "}", else all lines up to one that is "}".

    Raises
    ------
    ValueError
        If no line, or more than one, begins so.

    Examples
    --------
    >>> print(piece("ops/cuda/common.cuh", "__device__ __forceinline__ real relu"))
    __device__ __forceinline__ real relu(real v) { return v <= 0 ? 0 : v; }
    """
    lines = files("minise").joinpath(file).read_text(encoding="utf-8").splitlines()
    found = [k for k, line in enumerate(lines) if line.startswith(start)]
    if len(found) != 1:
        raise ValueError(f"piece: {len(found)} lines of {file} begin with {start!r}, expected one")
    first = found[0]
    last = first if lines[first].endswith("}") else lines.index("}", first)
    return "\n".join(lines[first : last + 1])
