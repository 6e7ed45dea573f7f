"""The index of the search has each section with its words, and none that a page hides."""

import json

from minise.site.search import Section, index_of, sections_of

BODY = """<h1 id="title">Batch &amp; norm</h1>
<p class='aside'>How to run it.</p><p>Three routes.</p>
<h2 id="forward">Forward</h2><div data-depends='control-n'><div data-when='0 1'>mean 4</div>
<!--choice--><div data-when='1 1' hidden>mean 5</div><!--choice--></div>
<section id="op"><div class="attr">op(x)</div><div class="docstring">Return x.</div></section>"""


def test_a_section_has_its_heading_address_and_words():
    assert sections_of("Batch & norm", "lessons/5.html", BODY) == [
        Section("Batch & norm", "lessons/5.html", "Batch & norm", "Three routes."),
        Section("Batch & norm", "lessons/5.html#forward", "Forward", "mean 4"),
        Section("Batch & norm", "lessons/5.html#op", "op", "(x) Return x."),
    ]


def test_the_index_is_a_script_that_cannot_end_its_element():
    text = index_of([Section("a", "a.html", "", "</script>é")])
    assert "</script>" not in text
    rows = json.loads(text.removeprefix("const SECTIONS = ").removesuffix(";\n"))
    assert rows == [["a", "a.html", "", "</script>é"]]
