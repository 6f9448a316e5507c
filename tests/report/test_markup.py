from __future__ import annotations

from tinyllama.report.markup import Markup, element, join


def test_text_and_attributes_are_escaped() -> None:
    html = element("p", "a < b & c", title='say "hi" <now>')
    assert html == '<p title="say &quot;hi&quot; &lt;now&gt;">a &lt; b &amp; c</p>'


def test_markup_is_not_escaped_again_and_lists_are_flattened() -> None:
    assert element("ul", [element("li", name) for name in "ab"], None) == "<ul><li>a</li><li>b</li></ul>"
    assert join("<", Markup("<br>")) == "&lt;<br>"


def test_attribute_names_are_spelled_as_in_html() -> None:
    html = element("th", "x", class_="a", aria_label="b", colspan=2, hidden=True, id=None)
    assert html == '<th class="a" aria-label="b" colspan="2" hidden>x</th>'


def test_void_elements_are_not_closed() -> None:
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'
