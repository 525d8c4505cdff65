"""HTML of the review page: whatever is shown is text, and nothing of it is read as the page's own language."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_report_browser import HOSTILE

pytest.importorskip("duckdb", reason="duckdb is not installed")

from rtdscan.pipeline.page.markup import model_state, plain, shown, template, tokens, words
from rtdscan.pipeline.page.settings import ReviewConfig
from rtdscan.pipeline.page.trying import MOST_CHARS, Model, State, Tried
from rtdscan.transforms.errors import UserError


class Seen(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(max_size=80) | st.sampled_from(HOSTILE))
def test_any_text_is_shown_as_text(text: str) -> None:
    html = shown(text, 1000)
    seen = Seen(html)
    assert seen.tags <= {"i"}
    assert not set("${}`") & set(html)  # the page's templates
    assert not set("\u202e\u2066\x1b\u200b\ufeff") & set(seen.text)
    assert not set("\u202e\u2066\x1b\u200b\ufeff") & set(plain(text))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=120))
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    assert Seen(shown(text)).text == text
    assert shown(f"{text}\n{text}", 1000).count("\n") == 1


def tried(text: str, *, suggestions: list[str]) -> Tried:
    marks = [{"start": 0, "end": 3, "score": 0.25}, {"start": 4, "end": 7, "score": 0.875}]
    row = {
        "status": "ok", "reason": None, "score": 0.5, "words": marks, "tokens": marks,
        "spans": [{**marks[1], "suggestions": suggestions, "probabilities": [0.75, 0.125][: len(suggestions)]}],
    }  # fmt: skip
    return Tried(text, row, 0.5, 0.01)


def test_words_carry_their_probabilities_and_suggestions() -> None:
    html = words(tried("the teh <b>", suggestions=["the", "<i>tea"]))
    assert 'data-p="0.875000" data-tip="0.875" tabindex="-1">teh</span>' in html
    assert 'data-p="0.250000"' in html
    assert "&lt;b&gt;" in html
    assert "<bdi>the</bdi> <small>0.75</small> <bdi>&lt;i&gt;tea</bdi> <small>0.12</small>" in html
    assert "Instead" not in words(tried("the teh <b>", suggestions=[]))
    assert "4–7" in tokens(tried("the teh", suggestions=[]))
    assert "0.875" in tokens(tried("the teh", suggestions=[]))


def test_what_can_not_be_scored_is_a_sentence(tmp_path: Path, tiny_bundle: Path) -> None:
    missing = Model(ReviewConfig(model=str(tmp_path / "nowhere")))
    for text, says in (("", "no text"), (" \n", "no text"), ("x" * (MOST_CHARS + 1), "20,001"), ("a", "nowhere")):
        with pytest.raises(UserError, match=says):
            missing.score(text)
    assert missing.state.state == "failed"
    assert "nowhere" in model_state(missing.state)
    assert 'data-state="failed"' in model_state(missing.state)
    assert 'data-state="idle"' in model_state(State("idle", "x"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    with pytest.raises(UserError, match="no model to score with"):
        Model(ReviewConfig(model=str(tmp_path / "broken"))).score("a")
    model = Model(ReviewConfig(model=str(tiny_bundle), engine="torch", precision="float32", threads=1))
    found = model.score("The old house \ud800 stood.", flag=0.0)
    assert model.state.state == "ready"
    assert len(found.row["words"]) >= 4
    assert len(found.row["spans"]) >= 1
    assert model.score("The old house stood.", flag=1.0).row["spans"] == []


def test_templates_fetch_nothing() -> None:
    for name in ("review.css", "document.html", "document.js", "list.js", "words.js"):
        text = template(name)
        assert "http" not in text
        assert "@import" not in text
        assert "url(" not in text
        assert "innerHTML" not in text
