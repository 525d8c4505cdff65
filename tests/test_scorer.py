"""Scorer: what a text's attributes are does not depend on what is scored beside it."""

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import make_tiny_bundle
from tokenizers import Tokenizer

from rtdscan.transforms import bundle as bundle_module
from rtdscan.transforms import scorer as scorer_module
from rtdscan.transforms.documents import PIECE_BYTES
from rtdscan.transforms.errors import EngineError, UserError
from rtdscan.transforms.readout import DAMAGE_PROBABILITY
from rtdscan.transforms.records import attribute_schema
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import Limits, OutputSettings, ScoreSettings, Thresholds

PROSE = (
    "The old house stood at the end of the road. Nobody had lived there for years, and the garden was wild! "
    "Was it true that 3.14 people, on average, don't pay? 我们 在 这里 学习中文。 Naïve café — “quoted” text…\n\n"
)


@pytest.fixture(scope="module")
def scorer(tiny_bundle) -> Scorer:
    output = OutputSettings(words=True, tokens=True, embedding="float32")
    options = ScoreSettings(engine="torch", precision="float32", output=output, thresholds=Thresholds(floor=0.3))
    return Scorer.load(str(tiny_bundle), settings=options)


def texts(*values: str | bytes | None, type_: pa.DataType | None = None) -> pa.Table:
    return pa.table({"text": pa.array(values, type_ or pa.string())})


def test_schema_and_rows(scorer: Scorer) -> None:
    table = texts(PROSE, None, "", " \n\t", "Hello").append_column("key", pa.array([5, 4, 3, 2, 1], pa.uint8()))
    rows = scorer.score(table, id="key")
    expected = attribute_schema(scorer.settings.output, dims=scorer.engine.dims, id_type=pa.uint8())
    assert rows.schema.equals(expected, check_metadata=True)
    assert rows["id"].to_pylist() == [5, 4, 3, 2, 1]
    assert rows["row"].to_pylist() == [0, 1, 2, 3, 4]
    assert rows["status"].to_pylist() == ["ok", "null", "empty", "empty", "ok"]
    for name in ("score", "max_score", "candidates", "n_flagged", "spans", "words", "tokens", "unk_share"):
        assert rows[name].is_valid().to_pylist() == [True, False, False, False, True], name
    assert [row[0] is not None for row in rows["embedding"].to_pylist()] == [True, False, False, False, True]
    assert rows["n_chars"].to_pylist() == [len(PROSE), 0, 0, 3, 5]


def test_scores_hang_together(scorer: Scorer) -> None:
    row = scorer.score(texts(PROSE * 20)).to_pylist()[0]
    words = row["words"]
    assert len(words) == row["n_words"] > 500
    assert len(row["tokens"]) == row["n_tokens"] > len(words)
    assert row["n_windows"] > 3
    assert row["score"] == pytest.approx(np.mean([w["score"] for w in words]), rel=1e-6)
    assert row["max_score"] == max(w["score"] for w in words)
    assert row["candidates"] == [w for w in words if w["score"] >= np.float32(0.3)]
    assert row["n_flagged"] == sum(w["score"] >= 0.5 for w in words)
    assert 0 < row["n_flagged"] < len(row["candidates"]) < len(words)
    assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-6)
    assert all((PROSE * 20)[w["start"] : w["end"]].strip() for w in words)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 40), min_size=2, max_size=12), st.integers(0, 11))
def test_neighbours_do_not_matter(scorer: Scorer, repeats: list[int], at: int) -> None:
    values = [PROSE[n:] * (1 + n % 4) for n in repeats]
    at %= len(values)
    together = scorer.score(texts(*values)).slice(at, 1).to_pylist()[0]
    alone = scorer.score(texts(values[at])).to_pylist()[0]
    assert {**together, "row": 0} == alone  # to the bit: float32


def test_equal_texts_run_once(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    forward = type(scorer.engine).forward

    def counting(self, ids_BT, lengths_B, weights_BT):
        ran.append(len(ids_BT))
        return forward(self, ids_BT, lengths_B, weights_BT)

    monkeypatch.setattr(type(scorer.engine), "forward", counting)
    rows = scorer.score(texts(*["One sentence."] * 9, "Another one here."))
    assert sum(ran) == 2
    assert len(set(rows["score"].to_pylist())) == 2
    ran.clear()
    boilerplate = "All rights reserved by the company. " * 40  # a paragraph that begins windows of both texts
    scorer.score(texts("First text.\n\n" + boilerplate, "Second text, a longer one.\n\n" + boilerplate))
    whole = sum(ran)
    ran.clear()
    scorer.score(texts("First text.\n\n" + boilerplate))
    scorer.score(texts("Second text, a longer one.\n\n" + boilerplate))
    assert whole <= sum(ran)


def test_every_table_opened_the_tokenizer_again(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took longer than to score a table of short texts."""
    opened = []

    def counting(path: Path) -> Tokenizer:
        opened.append(path)
        return open_tokenizer(path)

    open_tokenizer = bundle_module._open_tokenizer
    monkeypatch.setattr(bundle_module, "_open_tokenizer", counting)
    bundle_module._shared_tokenizer.cache_clear()
    table = texts(PROSE, "Hello there.", PROSE * 3)
    first = scorer.score(table)
    with ThreadPoolExecutor(3) as threads:
        assert all(first.equals(again) for again in threads.map(scorer.score, [table] * 6))
    assert opened == [scorer.bundle.path]
    bundle_module._shared_tokenizer.cache_clear()
    assert first.equals(scorer.score(table))  # to the bit, with a new one
    assert len(opened) == 2


@pytest.mark.parametrize(
    ("value", "status", "reason"),
    [
        (b"caf\xe9 au lait", "invalid", "byte 0xe9 at offset 3 is not valid UTF-8"),
        (b"\xff\xfe", "invalid", "byte 0xff at offset 0 is not valid UTF-8"),
        ("\u200b \u2060".encode(), "empty", "no words"),
        ("caf\ufffd".encode(), "ok", None),
    ],
)
def test_odd_bytes(scorer: Scorer, value: bytes, status: str, reason: str | None) -> None:
    row = scorer.score(texts(value, b"A good text.", type_=pa.binary()), text="text").to_pylist()
    assert (row[0]["status"], row[0]["reason"]) == (status, reason)
    assert row[1]["status"] == "ok"


def test_words_the_tokenizer_deletes_are_not_lost(scorer: Scorer) -> None:
    row = scorer.score(texts("\ufffd\ufffd")).to_pylist()[0]
    assert (row["n_tokens"], row["n_words"], row["status"]) == (0, 1, "ok")
    assert row["score"] == pytest.approx(0.99)
    assert set(row["embedding"]) == {None}
    assert row["spans"][0]["start"] == 0
    assert row["spans"][0]["end"] == 2


def test_long_documents_are_cut_into_pieces(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtdscan.transforms.documents.PIECE_BYTES", 2000)
    text = PROSE * 40
    assert len(text.encode()) > 4 * 2000
    row = scorer.score(texts("Before.", text, "After.")).to_pylist()[1]
    monkeypatch.setattr("rtdscan.transforms.documents.PIECE_BYTES", PIECE_BYTES)
    whole = scorer.score(texts(text)).to_pylist()[0]
    for name in ("n_chars", "n_words", "n_tokens"):
        assert row[name] == whole[name]
    assert [(w["start"], w["end"]) for w in row["words"]] == [(w["start"], w["end"]) for w in whole["words"]]
    assert row["score"] == pytest.approx(whole["score"], abs=0.02)  # windows end elsewhere


def test_a_token_limit_truncates(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = scorer.with_settings(scorer.settings.model_copy(update={"limits": Limits(document_tokens=100)}))
    for piece_bytes in (PIECE_BYTES, 700):
        monkeypatch.setattr("rtdscan.transforms.documents.PIECE_BYTES", piece_bytes)
        row = limited.score(texts(PROSE * 10, "Short.")).to_pylist()
        assert row[0]["status"] == "truncated"
        assert "100 tokens" in row[0]["reason"]
        assert row[0]["n_tokens"] == 100
        assert 0 < row[0]["words"][-1]["end"] < len(PROSE * 10) / 2
        assert row[1]["status"] == "ok"


def test_chunks_do_not_matter(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [PROSE * (1 + n % 3) + str(n) for n in range(12)]
    whole = scorer.score(texts(*values))
    monkeypatch.setattr(scorer_module, "CHUNK_BYTES", 1500)
    assert scorer.score(texts(*values)).equals(whole)
    monkeypatch.setattr(scorer_module, "CHUNK_PIECES", 1)
    assert scorer.score(texts(*values)).equals(whole)


def test_careful_scoring_is_the_same(scorer: Scorer) -> None:
    rows = pa.table({"text": pa.array([PROSE.encode(), b"Two.", None, PROSE.encode(), b"Three."], pa.large_binary())})
    seen: list[int | None] = []
    careful = scorer.score_rows(rows, first_row=7, on_document=seen.append)
    assert careful.equals(scorer.score_rows(rows, first_row=7))
    assert seen == [0, None, 1, None, 4, None]  # row 3 holds the text of row 0
    marked = scorer.score_rows(rows, failed=frozenset({3}))
    assert marked["status"].to_pylist() == ["failed", "ok", "null", "failed", "ok"]
    assert marked["reason"][0].as_py() == "it killed its worker"


def test_rewriting_is_scoring_again(scorer: Scorer) -> None:
    rows = pa.table({"text": pa.array([PROSE.encode() * 3, None, b"Two bad words.", b""], pa.large_binary())})
    stored = scorer.score_rows(rows)
    other = scorer.settings.model_copy(
        update={
            "thresholds": Thresholds(floor=0.35, flag=0.45, review=0.1, drop=0.6, not_ok="drop"),
            "ignore": ("number",),
            "allow": ("garden", "two"),
        }
    )
    again = scorer.with_settings(other)
    assert again.rewrite(stored, rows).equals(again.score_rows(rows))
    assert not again.rewrite(stored, rows).equals(stored)


def test_a_scorer_is_told_in_a_line_and_can_be_a_key(tiny_bundle: Path) -> None:
    """A cell of a notebook that ended in it printed 700,000 characters; a cache could not hold what it made."""
    settings = ScoreSettings(engine="torch", precision="float32")
    scorer = Scorer.load(tiny_bundle, settings=settings)  # by its Path
    assert repr(scorer) == "Scorer(tiny-0, torch float32)"
    assert {scorer: 1}[scorer] == 1


def test_rewriting_looks_at_equal_texts_once(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pa.table(
        {
            "text": pa.array([b"One bad text.", None, b"Two bad words.", b"One bad text.", None], pa.large_binary()),
            "id": pa.array([*"abcde"], pa.string_view()),  # a type that Arrow can't take rows from
        }
    )
    stored = scorer.score_rows(rows, first_row=3)
    seen: list[int] = []
    presented = Scorer._presented

    def watched(self: Scorer, table: pa.Table, text_of: Any, **made: Any) -> pa.Table:
        seen.append(table.num_rows)
        return presented(self, table, text_of, **made)

    monkeypatch.setattr(Scorer, "_presented", watched)
    strict = scorer.with_settings(scorer.settings.model_copy(update={"thresholds": Thresholds(floor=0.2, flag=0.2)}))
    again = strict.rewrite(stored, rows, first_row=3)
    assert seen == [3]
    assert again.equals(strict.score_rows(rows, first_row=3))
    assert again["id"].to_pylist() == [*"abcde"]
    assert again["row"].to_pylist() == [3, 4, 5, 6, 7]


def test_one_threshold_of_a_pair_moves_the_other_along(scorer: Scorer) -> None:
    own = scorer.bundle.card.thresholds
    resolved = scorer.with_settings(ScoreSettings(thresholds=Thresholds(flag=own.floor / 2))).settings.thresholds
    assert (resolved.floor, resolved.flag) == (own.floor / 2, own.floor / 2)
    high = scorer.with_settings(ScoreSettings(thresholds=Thresholds(review=own.drop + 0.1))).settings.thresholds
    assert (high.review, high.drop) == (own.drop + 0.1, own.drop + 0.1)
    low = scorer.with_settings(ScoreSettings(thresholds=Thresholds(drop=own.review / 2))).settings.thresholds
    assert (low.review, low.drop) == (own.review / 2, own.review / 2)
    with pytest.raises(UserError, match=r"thresholds\.floor is 0\.9; expected at most thresholds\.flag, which is 0\.5"):
        scorer.with_settings(ScoreSettings(thresholds=Thresholds(floor=0.9)))


@pytest.mark.parametrize(("low", "high"), [("floor", "flag"), ("review", "drop")])
def test_thresholds_that_contradict_each_other_blamed_the_model(low: str, high: str) -> None:
    with pytest.raises(ValueError, match=rf"thresholds\.{low} is 0\.9; expected at most thresholds\.{high}, which"):
        ScoreSettings.model_validate({"thresholds": {low: 0.9, high: 0.1}})


def test_all_words_above_a_low_threshold_are_flagged(scorer: Scorer) -> None:
    settings = ScoreSettings(thresholds=Thresholds(flag=0.001), output=OutputSettings(words=True))
    (row,) = scorer.with_settings(settings).score(texts(PROSE)).to_pylist()
    assert row["n_flagged"] == sum(word["score"] >= 0.001 for word in row["words"]) > 0


def test_a_pickled_scorer_is_loaded_again_where_it_arrives(tiny_bundle: Path, tmp_path: Path) -> None:
    """OpenVINO's requests can't be pickled."""
    model = tmp_path / "model"
    shutil.copytree(tiny_bundle, model)
    loaded = Scorer.load(str(model), settings=ScoreSettings(engine="openvino", precision="float32"))
    scorer = loaded.with_settings(ScoreSettings(thresholds=Thresholds(flag=0.2), output=OutputSettings(words=True)))
    sent = pickle.dumps(scorer)
    assert len(sent) < 10_000
    arrived = pickle.loads(sent)
    assert arrived.settings == scorer.settings
    assert arrived.score(texts(PROSE)).equals(scorer.score(texts(PROSE)))
    make_tiny_bundle(model, seed=1)
    with pytest.raises(UserError, match="give every worker the same model"):
        pickle.loads(sent)


def test_a_window_that_the_model_does_not_know_is_refused(scorer: Scorer) -> None:
    with pytest.raises(UserError, match=r"window is 4096; expected at most \d+, the positions that"):
        scorer.with_settings(ScoreSettings(window=4096))


def test_two_columns_of_one_name_are_refused_before_scoring(scorer: Scorer) -> None:
    carrying = scorer.with_settings(ScoreSettings(output=OutputSettings(columns=("id",))))
    table = pa.table({"text": ["A text."], "doc": ["D"], "id": [1]})
    with pytest.raises(UserError, match="id is the name of an attribute or listed twice"):
        carrying.score(table, id="doc")
    assert carrying.score(table)["id"].to_pylist() == [1]


class Broken:
    """An engine that can't take windows of a certain token, or nothing at all."""

    def __init__(self, engine, *, poison: int, dead: bool = False) -> None:
        self.engine, self.poison, self.dead = engine, poison, dead
        self.name, self.precision, self.dims = engine.name, engine.precision, engine.dims

    def forward(self, ids_BT, lengths_B, weights_BT):
        if self.dead or (ids_BT == self.poison).any():
            raise MemoryError("out of memory")
        return self.engine.forward(ids_BT, lengths_B, weights_BT)


class Endless(Broken):
    """An engine whose logits, or if `dead` whose embeddings, of windows of a certain token are no finite numbers."""

    def forward(self, ids_BT, lengths_B, weights_BT):
        logits_BT, pooled_BD = self.engine.forward(ids_BT, lengths_B, weights_BT)
        (pooled_BD if self.dead else logits_BT)[(ids_BT == self.poison).any(axis=1)] = np.inf if self.dead else np.nan
        return logits_BT, pooled_BD


@pytest.mark.parametrize("dead", [False, True])
def test_numbers_that_are_not_finite_fail_their_document(scorer: Scorer, dead: bool) -> None:
    poison = scorer.bundle.tokenizer().encode("garden", add_special_tokens=False).ids[0]
    endless = replace(scorer, engine=Endless(scorer.engine, poison=poison, dead=dead))
    rows = endless.score(texts("A fine text.", "The garden was wild.", "Another."))
    assert rows["status"].to_pylist() == ["ok", "failed", "ok"]
    assert rows["reason"][1].as_py() == "the network gave a number that is not finite"


def test_a_window_that_failed_is_not_remembered(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    poison = scorer.bundle.tokenizer().encode("garden", add_special_tokens=False).ids[0]
    broken = replace(scorer, engine=Broken(scorer.engine, poison=poison))
    monkeypatch.setattr(scorer_module, "CHUNK_PIECES", 1)
    bad = "The garden was wild, and the old house stood at the end of the road. "  # a window of its own
    both = texts(
        bad + "Nobody had lived there for many years. " * 4, bad + "Somebody had lived elsewhere for a year. " * 4
    )
    assert broken.score(both)["status"].to_pylist() == ["failed", "failed"]


def test_a_document_that_fails_fails_alone(scorer: Scorer) -> None:
    poison = scorer.bundle.tokenizer().encode("garden", add_special_tokens=False).ids[0]
    broken = Scorer(scorer.bundle, Broken(scorer.engine, poison=poison), scorer.settings)
    values = ["A fine text.", "The garden was wild.", "Another fine text, a longer one."]
    rows = broken.score(texts(*values))
    assert rows["status"].to_pylist() == ["ok", "failed", "ok"]
    assert rows["reason"][1].as_py() == "the network failed on it: MemoryError"
    assert rows["n_words"].to_pylist()[1] == 0
    healthy = scorer.score(texts(*values))
    keep = pa.array([0, 2])
    assert rows.take(keep).equals(healthy.take(keep))


def test_a_dead_engine_is_not_the_documents_fault(scorer: Scorer) -> None:
    broken = Scorer(scorer.bundle, Broken(scorer.engine, poison=-1, dead=True), scorer.settings)
    with pytest.raises(EngineError, match="stopped working"):
        broken.score(texts("A text."))


def test_what_an_engine_says_of_itself_is_told_as_it_is(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self, ids_BT, lengths_B, weights_BT):
        raise EngineError("engine torch: was closed")

    monkeypatch.setattr(type(scorer.engine), "forward", forward)
    with pytest.raises(EngineError, match=r"^engine torch: was closed$"):
        scorer.score(texts("A text.", "Another text."))


def test_string_types_and_columns(scorer: Scorer) -> None:
    plain = scorer.score(texts(PROSE, "Two."))
    for type_ in (pa.large_string(), pa.string_view()):
        assert scorer.score(texts(PROSE, "Two.", type_=type_)).equals(plain)
    dictionary = pa.table({"text": pc.dictionary_encode(pa.array([PROSE, "Two."]))})
    assert scorer.score(dictionary).equals(plain)
    nested = pa.table({"doc": pa.array([{"text": PROSE}, {"text": "Two."}]), "n": [1, 2]})
    assert scorer.score(nested, text="doc.text").equals(plain)
    assert scorer.score(pl.DataFrame({"text": [PROSE, "Two."]})).equals(plain)
    with pytest.raises(UserError, match="2 string columns: name the text column by text=;"):
        scorer.score(pa.table({"a": ["x"], "b": ["y"]}))
    with pytest.raises(UserError, match="body"):
        scorer.score(texts("x").append_column("other", pa.array(["y"])), text="body")


def test_no_rows(scorer: Scorer) -> None:
    assert scorer.score(texts()).num_rows == 0


class Counting(Broken):
    """An engine that counts windows."""

    def __init__(self, engine) -> None:
        super().__init__(engine, poison=-1)
        self.windows = 0

    def forward(self, ids_BT, lengths_B, weights_BT):
        self.windows += len(lengths_B)
        return super().forward(ids_BT, lengths_B, weights_BT)


def test_windows_that_repeat_are_run_once_in_all_chunks(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boilerplate under every text; each chunk holds one text."""
    values = [f"Number {n} is new.\n\n" + PROSE * 2 for n in range(6)]
    expected = scorer.score(texts(*values))
    monkeypatch.setattr(scorer_module, "CHUNK_PIECES", 1)
    run: dict[int, int] = {}
    for most in (8192, 2, 0):
        monkeypatch.setattr("rtdscan.transforms.forward.MOST_KNOWN", most)
        counting = Counting(scorer.engine)
        assert replace(scorer, engine=counting).score(texts(*values)).equals(expected)
        run[most] = counting.windows
    assert run[0] % 6 == 0  # nothing is remembered: as many for each text
    assert run[8192] <= run[0] / 2  # most of a text is boilerplate
    assert run[8192] <= run[2] < run[0]  # the bound holds, and what there is room for serves


def test_tokens_are_told_as_they_are_scored(scorer: Scorer) -> None:
    """Those of texts that repeat once, those that several windows hold once, those of windows that repeat too."""
    told: list[int] = []
    texts = [f"{at} " + "the old man looked at the water " * at for at in range(30)]
    rows = pa.table({"text": pa.array([text.encode() for text in (*texts, *texts)], pa.large_binary())})
    found = scorer.score_rows(rows, on_tokens=told.append)
    assert sum(told) == sum(found["n_tokens"].to_pylist()) / 2
    assert len(told) > 1


def test_a_character_reference_is_damage_in_every_part(scorer: Scorer) -> None:
    settings = scorer.settings.model_copy(update={"output": OutputSettings(words=True)})
    text = "the water &amp; one & two"
    (words,) = scorer.with_settings(settings).score(texts(text))["words"].to_pylist()
    damaged = [text[w["start"] : w["end"]] for w in words if w["score"] == np.float32(DAMAGE_PROBABILITY)]
    assert damaged == ["&", "amp", ";"]
