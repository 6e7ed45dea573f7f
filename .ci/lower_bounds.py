"""Print pyproject.toml's lower bounds as exact versions, one a line, for pip's --constraint."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
for requirement in wanted:
    name, _, version = re.split(r"(>=|==)", requirement)
    print(f"{name}=={version}")
