"""Write the pages about models and README's table: python -m minise.analysis.pages FOLDER."""

import sys
from pathlib import Path

from minise.analysis.pages import written_pages


def main(arguments: list[str]) -> int:
    """Write the pages into the project's folder; return the exit status."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m minise.analysis.pages FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    try:
        pages = written_pages((folder / "README.md").read_text(encoding="utf-8"))
        for name, text in pages.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        print(
            f"pages: FOLDER is {str(folder)!r}, expected the project's folder, with README.md: "
            f"{error.strerror}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
