"""The verb that builds the static site: `minise site build FOLDER`."""

import os
import time
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from minise.cli.words import FAILED, Failure, misuse, say


def site(
    action: tyro.conf.Positional[Literal["build"]],
    folder: tyro.conf.Positional[Path],
    repository: str = "",
    without_api: bool = False,
) -> int:
    """Build the static site: lessons, walks, article, API reference.

    The pages open from disk and make no request. It needs a checkout of the project, and the extra
    site. A folder with an earlier site is replaced at the end.

    Example: minise site build public --repository octocat/minise

    Args:
        action: build.
        folder: A new or empty folder, or one with an earlier site.
        repository: OWNER/NAME on GitHub, for "Open in Colab" and the install cells of the
            notebooks; by default GITHUB_REPOSITORY of the environment.
        without_api: Leave out the API reference.
    """
    console, started = Console(), time.perf_counter()
    repository = repository or os.environ.get("GITHUB_REPOSITORY", "")
    with misuse():
        from minise.site.build import build, check
        from minise.site.checkout import BrokenSite

        check(folder, repository, api=not without_api)
    try:
        written = build(
            folder, repository, api=not without_api, say=lambda text: say(console, text)
        )
    except BrokenSite as error:
        raise Failure(str(error), FAILED) from error
    say(
        console,
        f"{folder / 'index.html'}: {written.pages} pages, {written.size / 1e6:.1f} MB, "
        f"{time.perf_counter() - started:.0f} seconds",
    )
    return 0
