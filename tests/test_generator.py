"""The generator of a bundle: what it shares with the discriminator, what it says of gaps, and what becomes of that."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from corpora import options, shards
from safetensors.numpy import load_file, save_file
from tiny import make_tiny_bundle, tiny_config, tiny_vocabulary
from transformers import ElectraConfig, ElectraForMaskedLM

from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.training.models import load_generator as load_for_training
from rtdscan.pipeline.training.refill import Refill
from rtdscan.transforms.bundle import load_bundle
from rtdscan.transforms.candidates import GUESSED
from rtdscan.transforms.corruption.generator import generated
from rtdscan.transforms.errors import EngineError, UserError
from rtdscan.transforms.gaps import LONGEST, GapReader, Reading, load_reader
from rtdscan.transforms.generator import DOWN, FOLDER, UP, Filled, Gap, generator_digest, load_generator
from rtdscan.transforms.infer import load_scorer
from rtdscan.transforms.job import Job
from rtdscan.transforms.near import NearWords
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import EngineName, OutputSettings, ScoreSettings, SuggestSettings, Thresholds
from rtdscan.transforms.suggest import Suggester

VOCABULARY = tiny_vocabulary()


def write_generator(bundle: Path, *, kind: str, seed: int = 3) -> Path:
    """Add a random generator to a tiny bundle: `low rank`, `tied` (half as wide) or `own` (shares nothing)."""
    random = np.random.default_rng(seed)
    config = {**tiny_config(), "architectures": ["ElectraForMaskedLM"]}
    if kind == "tied":
        config |= {"hidden_size": 16, "num_attention_heads": 1, "intermediate_size": 32}
    torch.manual_seed(seed)
    whole = {name: tensor.numpy() for name, tensor in ElectraForMaskedLM(_electra(config)).state_dict().items()}
    kept = {name: array for name, array in whole.items() if name.startswith("generator_")}
    kept.pop("generator_lm_head.weight")
    for name in kept:
        kept[name] = random.normal(0.5 if name.endswith("norm.weight") else 0.0, 0.4, kept[name].shape)
    if kind == "low rank":
        for name, array in load_file(bundle / "model.safetensors").items():
            if ".layer." in name and name.endswith("weight") and "LayerNorm" not in name:
                layer = name.removesuffix("weight")
                kept[layer + DOWN] = random.normal(0.0, 0.3, (3, array.shape[1]))
                kept[layer + UP] = random.normal(0.0, 0.3, (array.shape[0], 3))
    else:
        left_out = "electra.embeddings." if kind == "tied" else "\0"
        kept |= {n: a for n, a in whole.items() if n.startswith("electra.") and not n.startswith(left_out)}
    folder = bundle / FOLDER
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: array.astype(np.float32) for name, array in kept.items()}, folder / "model.safetensors")
    return folder


def _electra(config: dict[str, Any]) -> Any:
    return ElectraConfig(**{key: value for key, value in config.items() if key != "model_type"})


def settings_of(engine: EngineName = "openvino", **changes: Any) -> ScoreSettings:
    return ScoreSettings(engine=engine, precision="float32", **changes)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle with a generator of low rank."""
    path = make_tiny_bundle(tmp_path_factory.mktemp("models") / "pair")
    write_generator(path, kind="low rank")
    return path


GAPS = [
    Gap([2, 60, 4, 70, 80, 3], 2, [60, 61]),
    Gap([2, 4, 3], 1, [100]),
    Gap([2, *range(60, 100), 4, 3], 41, []),
]


# --- what it computes ---


@pytest.mark.parametrize("kind", ["low rank", "tied", "own"])
@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_it_says_what_transformers_says(kind: str, engine: EngineName, tmp_path: Path) -> None:
    path = make_tiny_bundle(tmp_path / "pair")
    folder = write_generator(path, kind=kind)
    generator = load_generator(load_bundle(str(path)), settings=settings_of(engine))
    assert generator is not None
    reference = load_for_training(folder).eval()
    for gap, filled in zip(GAPS, generator.fill(GAPS, best=5), strict=True):
        with torch.no_grad():
            log_p_V = torch.log_softmax(reference(torch.tensor([gap.ids])).logits[0, gap.at], -1).numpy()
        np.testing.assert_allclose(filled.log_p, log_p_V[list(gap.wanted)], atol=1e-4)
        np.testing.assert_allclose(filled.best_log_p, np.sort(log_p_V)[::-1][:5], atol=1e-4)
        assert log_p_V[filled.best[0]] == pytest.approx(log_p_V.max(), abs=1e-4)


def test_low_rank_changes_what_it_shares(bundle: Path) -> None:
    own = load_file(bundle / FOLDER / "model.safetensors")
    above = load_file(bundle / "model.safetensors")
    name = "electra.encoder.layer.1.intermediate.dense."
    wanted = above[f"{name}weight"] + own[name + UP] @ own[name + DOWN]
    found = load_for_training(bundle / FOLDER).state_dict()
    np.testing.assert_allclose(found[f"{name}weight"].numpy(), wanted, rtol=1e-6)
    assert np.array_equal(found[f"{name}bias"].numpy(), above[f"{name}bias"])
    assert not any(".weight" in key and "electra" in key for key in own)


def test_gaps_do_not_depend_on_the_others(bundle: Path) -> None:
    generator = load_generator(load_bundle(str(bundle)), settings=settings_of())
    assert generator is not None
    many = [Gap([2, *range(60, 60 + n), 4, 3], n + 1, [60, 70]) for n in range(40)] * 3
    for alone, together in zip(many[:40], generator.fill(many, best=3), strict=False):
        (single,) = generator.fill([alone], best=3)
        assert single.best == together.best
        assert np.array_equal(single.log_p, together.log_p)


@pytest.mark.parametrize("damage", ["no config", "no json", "other shape", "cut off", "other vocabulary"])
def test_a_damaged_generator_is_named(damage: str, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "pair"
    shutil.copytree(bundle, path)
    file, weights = path / FOLDER / "config.json", path / FOLDER / "model.safetensors"
    if damage == "no config":
        file.unlink()
    elif damage == "no json":
        file.write_text("{")
    elif damage == "cut off":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        key = "vocab_size" if damage == "other vocabulary" else "intermediate_size"
        file.write_text(json.dumps(json.loads(file.read_text()) | {key: 48}))
    with pytest.raises(UserError, match="generator"):
        load_generator(load_bundle(str(path)), settings=settings_of())


# --- what is asked of it ---


class Told:
    """A generator by the book: log p of a piece is minus its id, over 100."""

    def __init__(self) -> None:
        self.asked: list[Gap] = []

    def fill(self, gaps: Sequence[Gap], *, best: int) -> list[Filled]:
        self.asked += gaps
        top = tuple(VOCABULARY[piece] for piece in (".", "##s", "house", "的", "##er", "the"))
        return [Filled(-np.array(g.wanted) / 100, top, -np.arange(1.0, 7.0)) for g in gaps]


@pytest.fixture
def reader(bundle: Path) -> GapReader:
    loaded = load_bundle(str(bundle))
    return GapReader(Told(), loaded.tokenizer(), loaded)  # type: ignore[arg-type]


def test_a_candidate_is_read_in_a_gap_of_its_size(reader: GapReader) -> None:
    (found,) = reader.read([("we go to the", "and")], [["house", "houses", "a house"]])
    house, end, a = (VOCABULARY[piece] for piece in ("house", "##s", "a"))
    np.testing.assert_allclose(found.log_p_C, [-house / 100, -(house + end) / 100, -(a + house) / 100])
    assert found.pieces_C.tolist() == [1, 2, 2]
    assert found.words == (("house", -3.0), ("的", -4.0), ("the", -6.0))  # neither marks nor the rest of a word
    ids = [VOCABULARY[piece] for piece in ("[CLS]", "we", "go", "to", "the", "[MASK]", "[MASK]", "and", "[SEP]")]
    assert [gap.at for gap in reader.generator.asked] == [5, 5, 6]  # type: ignore[attr-defined]
    assert reader.generator.asked[1].ids == ids  # type: ignore[attr-defined]


def test_what_is_around_is_cut_to_what_the_network_has(reader: GapReader) -> None:
    positions = reader.bundle.config.positions
    reader.read([("the " * 300, "a " * 300), ("", "a " * 300), ("the " * 300, "")], [["house"], ["q" * 99], []])
    the, a = VOCABULARY["the"], VOCABULARY["a"]
    for gap in reader.generator.asked:  # type: ignore[attr-defined]
        assert gap.ids[gap.at] == VOCABULARY["[MASK]"]
        assert len(gap.ids) <= positions
        assert gap.ids.count(the) + gap.ids.count(a) >= (positions - 2 - LONGEST) // 2


def test_no_candidates_and_no_places(reader: GapReader) -> None:
    assert reader.read([], []) == []
    (found,) = reader.read([("", "")], [[]])
    assert found.log_p_C.tolist() == []


# --- what becomes of it ---


class Says:
    """A reader that finds one word fit, and names others."""

    def __init__(self, fit: str, own: Sequence[str]) -> None:
        self.fit, self.own = fit, own

    def read(self, places: Sequence[tuple[str, str]], candidates: Sequence[Sequence[str]]) -> list[Reading]:
        words = tuple((word, -1.0 - at) for at, word in enumerate(self.own))
        return [
            Reading(np.array([-1.0 if text == self.fit else -15.0 for text in those]), np.ones(len(those)), words)
            for those in candidates
        ]

    def pieces(self, text: str) -> int:
        return 1


def suggest(text: str, word: str, *, says: Says, words: NearWords | None) -> list[str]:
    def judge(texts: Sequence[str], places: Sequence[tuple[int, int]]) -> np.ndarray:
        return np.zeros((len(texts), 2))

    suggester = Suggester(words, SuggestSettings(in_context=True, top_k=9, least=0.0), judge=judge, gaps=says)  # type: ignore[arg-type]
    start = text.index(word)
    (found,) = suggester.suggest([(text, start, start + len(word))])
    assert sum(one.probability for one in found) <= 1 + 1e-9
    return [one.text for one in found]


COUNTS = {"house": 90, "horse": 90, "hose": 90, "there": 300, "their": 300, "of": 900, "for": 800}
WORDS = NearWords.of(COUNTS, total=1000)


def test_the_generator_decides_between_words_as_near() -> None:
    for meant in ("house", "horse"):
        assert suggest("He rode a hoxse home.", "hoxse", says=Says(meant, ()), words=WORDS)[0] == meant


def test_its_own_words_join_and_none_is_there_twice() -> None:
    found = suggest("Fond for music", "for", says=Says("of", ["for", "of", "x", "y", "z"]), words=WORDS)
    assert "of" in found
    assert "for" not in found
    assert len(found) == len(set(found))
    assert len({"of", "x", "y", "z"} & set(found)) == GUESSED


def test_without_letters_its_words_are_all() -> None:
    assert suggest("我的书", "书", says=Says("", ["书", "车", "家"]), words=None) == ["车", "家"]
    assert suggest("我的书", "书", says=Says("", ["车"]), words=WORDS) == ["车"]


class Reads(Says):
    """One that is sure of single characters by what stands before them."""

    def read(self, places: Sequence[tuple[str, str]], candidates: Sequence[Sequence[str]]) -> list[Reading]:
        sure = {"我": "们", "他": "们"}
        words = [((sure.get(before[-1:], "一"), -0.1 if before[-1:] in sure else -5.0),) for before, _ in places]
        return [Reading(np.zeros(len(c)), np.ones(len(c)), own) for own, c in zip(words, candidates, strict=True)]

    def pieces(self, text: str) -> int:
        return len(text)


@pytest.mark.parametrize(
    ("text", "span", "meant"),
    [
        ("我门，来了", "门，", "们，"),
        ("我门来了", "我门", "我们"),
        ("「我门、他门」", "「我门、他门」", "「我们、他们」"),
    ],
)
def test_each_character_of_a_script_without_spaces_is_a_word(text: str, span: str, meant: str) -> None:
    assert suggest(text, span, says=Reads("", ()), words=None)[0] == meant


def test_a_model_without_a_lexicon_suggests_by_its_generator(bundle: Path) -> None:
    settings = settings_of(
        suggest=SuggestSettings(in_context=True, least=0.0), thresholds=Thresholds(flag=0.0), output=OutputSettings()
    )
    scorer = Scorer.load(str(bundle), settings=settings)
    rows = scorer.score(pa.table({"text": ["the house 的", "的"]}))
    spans = [span for row in rows["spans"].to_pylist() for span in row]
    assert any(span["suggestions"] for span in spans)
    for span in spans:
        assert len(span["suggestions"]) == len(span["probabilities"]) <= 3
        assert span["probabilities"] == sorted(span["probabilities"], reverse=True)


def test_only_what_reads_in_context_has_the_generator(bundle: Path) -> None:
    assert Scorer.load(str(bundle), settings=settings_of()).gaps is None
    assert load_reader(load_bundle(str(make_tiny_bundle(bundle.parent / "alone"))), settings=settings_of()) is None


# --- it refills texts ---


def test_a_refilled_text_is_a_function_of_text_and_seed(bundle: Path) -> None:
    refill = Refill.of(load_bundle(str(bundle)))
    text = "The Green houses and the river. " * 20 + "\u4e66\u7684 END"
    tokenizer = load_bundle(str(bundle)).tokenizer()
    alone, again, other = (refill([text], [seed])[0] for seed in (5, 5, 6))
    assert alone == again == refill(["a", text], [1, 5])[1]
    assert alone != other
    before = tokenizer.encode(text, add_special_tokens=False)
    assert 0.05 < len(alone) / len(before.ids) < 0.25
    (made,) = generated([text], sample=refill, seeds=[5])
    assert {span.kind for span in made.spans} == {"generator"}
    assert made.restored() == text
    pieces = dict(zip(before.offsets, before.tokens, strict=True))
    for start, end, new in alone:
        assert new
        assert not new.startswith("##")
        assert new.lower() != pieces[start, end].removeprefix("##")
    assert any(new[0].isupper() for start, _, new in alone if text[start].isupper() and new.isalpha())
    assert refill(["", "\ufffd"], [1, 2])[0] == []


def test_a_model_without_a_generator_can_not_refill(tiny_bundle: Path) -> None:
    with pytest.raises(UserError, match="has none"):
        Refill.of(load_bundle(str(tiny_bundle)))


def test_evaluate_measures_on_its_samples(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"text": ["the house is by the river and the people see it"] * 20}), tmp_path / "a.parquet")
    (tmp_path / "mixture.yaml").write_text("kinds: {generator: 1}\nclean: 0\n")
    corrupt = ["--corrupt", str(tmp_path / "mixture.yaml"), "--json", "--set", "draws=20"]
    assert main(["evaluate", str(tmp_path / "a.parquet"), "--model", str(bundle), *corrupt]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["words"]["model"]["all"]["wrong"] < 0.3 * found["words"]["model"]["all"]["words"]
    alone = make_tiny_bundle(tmp_path / "alone")
    assert main(["evaluate", str(tmp_path / "a.parquet"), "--model", str(alone), *corrupt]) == 2
    assert "pretrain-generator" in capsys.readouterr().err


def test_a_scan_keeps_the_suggestions_of_spans_that_stay(
    bundle: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"text": ["the house 的 by a river", "people"]}), tmp_path / "a.parquet")
    asked: list[str] = []
    read = GapReader.read

    def counting(self: GapReader, around: Sequence[tuple[str, str]], found: Sequence[Sequence[str]]) -> list[Reading]:
        asked.extend(before for before, _ in around)
        return read(self, around, found)

    monkeypatch.setattr(GapReader, "read", counting)

    def scan(output: Path, *changed: str) -> int:
        asked.clear()
        load_scorer.cache_clear()
        sets = ["input.id=null", "suggest.in_context=true", "suggest.least=0", "thresholds.flag=0", *changed]
        assert main(["scan", str(tmp_path / "a.parquet"), str(output), *options(bundle, *sets)]) == 0
        return len(asked)

    assert scan(tmp_path / "out") > 0
    assert scan(tmp_path / "out", "allow=[people]", "thresholds.not_ok=drop") == 0
    assert scan(tmp_path / "fresh", "allow=[people]", "thresholds.not_ok=drop") > 0
    assert shards(tmp_path / "out") == shards(tmp_path / "fresh")
    assert scan(tmp_path / "out", "allow=[people]", "suggest.top_k=2") > 0


def test_a_worker_with_another_generator_is_refused(bundle: Path) -> None:
    digest = load_bundle(str(bundle)).digest
    reads, letters = (settings_of(model=str(bundle), suggest=SuggestSettings(in_context=on)) for on in (True, False))
    with pytest.raises(EngineError, match="another generator"):
        load_scorer(reads.model_dump_json(), digest, None, "0" * 32)
    assert load_scorer(letters.model_dump_json(), digest).gaps is None
    assert load_scorer(reads.model_dump_json(), digest, None, generator_digest(load_bundle(str(bundle)))).gaps


def test_settings_that_read_in_context_load_the_generator(bundle: Path) -> None:
    """They were taken without a word, and suggestions made without it."""
    reads = settings_of(suggest=SuggestSettings(in_context=True, least=0.0), thresholds=Thresholds(flag=0.0))
    letters = Scorer.load(str(bundle), settings=settings_of())
    rows = pa.table({"text": ["the house 的"]})
    changed = letters.with_settings(reads)
    assert changed.score(rows).equals(Scorer.load(str(bundle), settings=reads).score(rows))
    assert not changed.score(rows).equals(replace(changed, gaps=None).score(rows))
    assert changed.with_settings(letters.settings).with_settings(reads).gaps is changed.gaps


def test_another_generator_makes_spans_again_and_scores_nothing(bundle: Path) -> None:
    settings = settings_of(model=str(bundle), thresholds=Thresholds(floor=0.1, flag=0.5, review=0.5, drop=0.9))
    one, other = (Job("out", "run", "text", None, settings, "b", generator=digest) for digest in ("x", "y"))
    assert one.scoring == other.scoring
    assert one.presentation != other.presentation


def test_another_generator_has_another_digest(bundle: Path, tmp_path: Path) -> None:
    other = make_tiny_bundle(tmp_path / "other")
    assert generator_digest(load_bundle(str(other))) is None
    write_generator(other, kind="low rank", seed=4)
    found = [generator_digest(load_bundle(str(path))) for path in (bundle, other)]
    assert None not in found
    assert found[0] != found[1]
    assert load_bundle(str(bundle)).digest == load_bundle(str(make_tiny_bundle(tmp_path / "plain"))).digest
