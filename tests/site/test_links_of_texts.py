"""Links of lessons and Markdown files become addresses on the site."""

import pytest

from minise.site.checkout import BrokenSite, Checkout
from minise.site.links import Links

LESSON, README = "tutorials/05_batch_norm.py", "tutorials/README.md"


def rewritten(html, name=LESSON):
    checkout = Checkout()
    links = Links(checkout, name, checkout.addresses[name])
    return links.rewrite(html), links.sources


@pytest.mark.parametrize(
    ("name", "link", "expected"),
    [
        (LESSON, "?file=06_squeeze_and_excitation.py", "06_squeeze_and_excitation.html"),
        (LESSON, "?file=01_chain_rule.py#two-uses", "01_chain_rule.html#two-uses"),
        (LESSON, "./", "../index.html"),
        (LESSON, "#forward", "#forward"),
        (LESSON, "site:walks/linear.html#step-2", "../walks/linear.html#step-2"),
        (README, "05_batch_norm.py", "../lessons/05_batch_norm.html"),
        (README, "../README.md#on-a-gpu", "readme.html#on-a-gpu"),
        (README, "pages/guide.md", "guide.html"),
        (README, "../minise/ops/reference/norm.py", "../source/minise/ops/reference/norm.py.html"),
        (README, "https://arxiv.org/abs/1709.01507", "https://arxiv.org/abs/1709.01507"),
        ("README.md", "tutorials/pages/design.md", "design.html"),
        ("README.md", "tutorials/pages/models/vgg.md", "models/vgg.html"),
        ("tutorials/pages/models/vgg.md", "../models.md", "../models.html"),
        ("tutorials/pages/models.md", "models/vgg.md", "models/vgg.html"),
    ],
)
def test_a_link_leads_to_the_page_of_the_file(name, link, expected):
    html, _ = rewritten(f'<a title="x" href="{link}">text</a>', name)
    assert html == f'<a title="x" href="{expected}">text</a>'


def test_a_path_in_code_becomes_a_link_to_its_source():
    html, sources = rewritten("<p><code>minise/ops/jit/norm.py</code> <code>a/b</code></p>")
    assert '<a href="../source/minise/ops/jit/norm.py.html"><code>' in html
    assert "<code>a/b</code></p>" in html
    assert sources == {"minise/ops/jit/norm.py"}


@pytest.mark.parametrize("link", ["missing.py", "../../outside.md", "?file=12_missing.py"])
def test_a_link_that_leads_nowhere_is_named(link):
    with pytest.raises(BrokenSite, match="05_batch_norm.py links to .*correct the link"):
        rewritten(f"<a href='{link}'>text</a>")


def test_pictures_are_within_the_page():
    html, _ = rewritten('<img alt="a walk" src="walk.png">', README)
    assert 'src="data:image/png;base64,' in html
    html, _ = rewritten('<img alt="a block" src="pictures/se_block.svg">', README)
    assert html.startswith('<svg role="img" aria-label="a block"')
    with pytest.raises(BrokenSite, match="shows missing.png, which does not exist"):
        rewritten('<img src="missing.png">', README)
