"""Pages about the models, written from the nets themselves: counts, settings, commands.

`python -m minise.analysis.pages .` writes tutorials/pages/models.md, a page for each file of
minise/models into tutorials/pages/models, and the table of models in README.md.
"""

from minise.analysis.pages.family import Family, families
from minise.analysis.pages.model_page import model_page
from minise.analysis.pages.overview import overview, with_table

FOLDER = "tutorials/pages"


def written_pages(readme: str) -> dict[str, str]:
    """Return the text of each file that is written, by its path in the project.

    Parameters
    ----------
    readme : str
        README.md, whose table of models is renewed.
    """
    all_families = families()
    pages = {f"{FOLDER}/models/{family.file}.md": model_page(family) for family in all_families}
    pages[f"{FOLDER}/models.md"] = overview(all_families)
    pages["README.md"] = with_table(readme, all_families)
    return pages


__all__ = ["FOLDER", "Family", "families", "model_page", "overview", "with_table", "written_pages"]
