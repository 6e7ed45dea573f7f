"""Read and write the committed results: measurements with machine, versions, date and command."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from minise.train.run_folder import machine, versions

FOLDER = Path(__file__).parents[1] / "results"


def write_result(name: str, settings: dict[str, Any], **measured: Any) -> Path:
    """Write results/NAME.json and return its path; lists of numbers stand on one line each."""
    arguments = [Path(text).name for text in sys.argv[1:]]  # a folder without those above it
    content = {
        "date": time.strftime("%Y-%m-%d"),
        "command": ["python", "-m", f"minise.site.measurements.{name}", *arguments],
        "machine": machine(),
        "versions": versions(),
        "settings": settings,
        **measured,
    }
    path = FOLDER / f"{name}.json"
    path.write_text(_as_text(content) + "\n", encoding="utf-8")
    return path


def read_result(name: str) -> dict[str, Any]:
    """Return the content of results/NAME.json."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return content


def _as_text(value: Any, indent: str = "") -> str:
    """Return JSON in which a list of numbers or texts is one line."""
    deeper = indent + " "
    if isinstance(value, dict) and value:
        items = [f"{deeper}{json.dumps(key)}: {_as_text(v, deeper)}" for key, v in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(entry, list | dict) for entry in value):
        items = [f"{deeper}{_as_text(entry, deeper)}" for entry in value]
        return "[\n" + ",\n".join(items) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
