"""Write all pictures into a folder: python -m minise.pictures FOLDER."""

import sys
from pathlib import Path

from minise.pictures import PICTURES


def main(arguments: list[str]) -> int:
    """Write every picture as FOLDER/<name>.svg; return the exit status."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m minise.pictures FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in PICTURES.items():
            (folder / f"{name}.svg").write_text(draw().svg, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or "not writable"
        print(
            f"pictures: FOLDER is {str(folder)!r}, expected a folder to write into: {reason}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
