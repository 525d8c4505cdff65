"""What machines left in prose is found, and nothing that people write."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtdscan.transforms.presentation import exempt_words
from rtdscan.transforms.residue import mended, residues
from rtdscan.transforms.words import codepoints, cut_words


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in residues(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AT&T; &amp; &#39;x&#x2019; &nbsp;y &eacute;t&eacute &unknown; b;", "&amp; &#39; &#x2019; &nbsp; &eacute;"),
        ("twice &amp;quot; and &amp;amp;#39; escaped", "&amp;quot; &amp;amp;#39;"),
        ("a <b>bold</b> word<br/> and <BR />", "<b> </b> <br/> <BR />"),
        ("<p class='a' id=x>One <ref name=list />", "<p class='a' id=x> <ref name=list />"),
        ("he <!-- no --> and <!-- open", "<!-- no --> <!--"),
        ("<![CDATA[x]]> <?php echo $n; ?>", "<![CDATA[ ]]> <?php echo $n; ?>"),
        ("see {{reflist}} and {{ page.title|12 }}.", "{{reflist}} {{ page.title|12 }}"),
        ("高3-{zh-cn:米; zh-tw:公尺}-以上", "-{zh-cn:米; zh-tw:公尺}-"),
        ("in [[Paris|the city]] [citation needed] [/b]", "[[Paris|the city]] [citation needed] [/b]"),
        ('#main { margin: 3px; } style="width:5%"', '#main { margin: 3px; } style="width:5%"'),
        ("$(document).ready(function(){ x", "$(document).ready function(){"),
        (r"end.\nNext \u00e9 and \t x", r"\n \u00e9 \t"),
        ("one %20 two%20three", "%20 two%20three"),
        ('href=3D"x" caf=C3=A9', "=3D =C3=A9"),
        ("a basic\u00adally w\u200brong word\ufeffs", "\u00ad \u200b \ufeff"),
        ("state□s and □he", "□ □"),
        ("itâ€™s a cafÃ© and Ã†schylus", "â€™ Ã© Ã†"),
    ],
)  # fmt: skip
def test_what_machines_leave_is_found(text: str, expected: str) -> None:
    assert " ".join(found(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "if a <b and c> d, or x < y > z, then <mailto:me@here.org> has <<File: a.doc>>",
        '[s]he said "[i]t is", see [12] and [1, 2]; x[[1]] is {1, 2} or {{1}, {2}}',
        "C:\\temp\\new and C:\\Users, http://a.org/b%20c?d=3D, 100%20 off, n=20, a=b",
        "\ufeffText with a mark before it, می\u200cخواهم, 漢\u200b字, 12□17, □□",
        'Don’t "quote" me — I\'m 5\' 3"; R&D, Q&A; AT&T; **bold** and *** stars ***',
    ],
)
def test_what_people_write_is_left(text: str) -> None:
    assert found(text) == []


@given(st.text(alphabet="<>/bi&amp;#x19[]{}|\\nuqt=\"'3D%20 -!\u00ad\u200béa", max_size=60))
def test_residues_are_ascending_and_disjoint(text: str) -> None:
    spans = residues(text)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "part",
    ["Ã© ", "<", "<a ", "<a x=1 ", "<a x='", "{{a", "-{", "a{a:a;", "[[a", "[url=",
     'style="', "%20", "=C3", "<!--", "<?php "],
)  # fmt: skip
def test_hostile_texts_come_to_an_end(part: str) -> None:
    """A quarter of a second at most where matching is linear; minutes where it is not."""
    spans = residues(part * 20_000)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_code_is_let_be() -> None:
    text = 'The <title> and {{ page.name }} of a=3D"b".'
    words = cut_words(codepoints(text), [])
    exempt = exempt_words(text, words.start_W, words.end_W, ignore=("code",), allow=())
    left = [text[s:e] for s, e, out in zip(words.start_W, words.end_W, exempt, strict=True) if not out]
    assert left == ["The", "and", "of", "a", '"', "b", '"', "."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("caf&eacute;", "café"),
        ("&amp;amp;#39;", "'"),
        ("&nbsp;", " "),
        ("\\u00e9t\\u00e9", "été"),
        ("na=C3=AFve", "naïve"),
        ("basic\u00adally", "basically"),
        ("donâ€™t", "don’t"),
        ("cafÃ©", "café"),
        ("plain", None),
        ("café", None),
        ("the\u0412\u00a0", None),  # not read, and a space alone is no mending
        ("<b>", None),
        ("<b>&amp;", None),
        ("&#0;", None),
        ("&#xd800;", None),
        ("\\ud83d", None),
        ("&lt;b&gt;", None),  # what comes out is a tag
    ],
)
def test_escapes_are_turned_back(text: str, expected: str | None) -> None:
    assert mended(text) == expected


@given(st.text(alphabet="&amp;#x19le;\\\\u00e9=C3A\u00adé <b>", max_size=40))
def test_what_is_mended_holds_no_residue(text: str) -> None:
    assert mended(text) is None or not residues(mended(text) or "")
