"""rtdscan calibrate: what is written into a bundle, and that it is better or says that it is not."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_evaluate import sentences
from tiny import make_tiny_bundle

from rtdscan.pipeline.__main__ import PROGRAMS, main
from rtdscan.pipeline.detection.bundles import with_section
from rtdscan.pipeline.detection.calibration import HELD_OUT, UNFITTED, calibrate, section
from rtdscan.pipeline.detection.evidence import Evidence
from rtdscan.pipeline.detection.logistic import fit
from rtdscan.pipeline.detection.measuring import Measured
from rtdscan.pipeline.detection.metrics import FEW_DOCUMENTS
from rtdscan.pipeline.detection.refit import LEAST_SCALE, Words, choose_words, feature_names, folds_of, refit
from rtdscan.pipeline.detection.reliability import Prior, platt
from rtdscan.pipeline.detection.settings import CalibrateConfig
from rtdscan.pipeline.detection.truth import Truth
from rtdscan.pipeline.summary import precision_note
from rtdscan.transforms.bundle import BundleCard, load_bundle
from rtdscan.transforms.lexicon import LEXICON_FILE
from rtdscan.transforms.lexicon_file import write_lexicon
from rtdscan.transforms.readout import sigmoid
from rtdscan.transforms.tally import Tally


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROGRAMS, "calibrate", ("rtdscan.pipeline.calibrate", "probabilities and thresholds"))


def planted(words: int = 6000, *, rate: float = -3.0, seed: int = 0) -> tuple[Evidence, np.ndarray]:
    """Words whose labels follow largest + 2 title."""
    rng = np.random.default_rng(seed)
    largest, title = rng.normal(size=words), rng.random(words) < 0.3
    wrong = rng.random(words) < sigmoid(1.5 * largest + 2.0 * title + rate)
    feature = np.stack([largest, title], axis=1).astype(np.float32)
    document = np.repeat(np.arange(words // 20), 20)
    zero, seen = np.zeros(words, np.int64), np.ones(words, bool)
    return Evidence(("largest", "title"), document, zero, zero + 1, feature, seen, ~seen), wrong


def fitted(evidence: Evidence, wrong: np.ndarray, **more: object):
    card = BundleCard()
    words = Words(np.ones(len(wrong), bool), np.ones(len(wrong), bool), wrong)
    given = {"names": ("largest", "title"), "ridge": 1.0, "folds": 4, "seed": 0, **more}
    return refit(card, evidence, words, **given)  # type: ignore[arg-type]


def test_the_readout_is_fitted_and_probabilities_mean_what_they_say() -> None:
    evidence, wrong = planted()
    found = fitted(evidence, wrong)
    assert not found.kept
    assert found.after.average_precision > found.before.average_precision + 0.02
    assert found.coefficients["title"] / found.coefficients["largest"] == pytest.approx(2.0 / 1.5, rel=0.2)
    fresh, truth = planted(seed=1)
    p = sigmoid(found.slope * fresh.logit(found.coefficients, found.intercept) + found.shift)
    assert p.mean() == pytest.approx(truth.mean(), rel=0.1)
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 1)):
        inside = (p >= low) & (p < high)
        assert p[inside].mean() == pytest.approx(truth[inside].mean(), abs=0.04)


def test_an_expected_rate_moves_probabilities_and_not_their_order() -> None:
    evidence, wrong = planted()
    as_here, rare = fitted(evidence, wrong), fitted(evidence, wrong, shift=Prior.of(wrong, 0.01).shift)
    assert rare.coefficients == as_here.coefficients
    assert rare.slope == as_here.slope
    rate = wrong.mean()
    assert rare.shift - as_here.shift == pytest.approx(np.log(0.01 / 0.99) - np.log(rate / (1 - rate)), abs=1e-4)


def test_the_old_readout_is_kept_where_the_new_one_is_no_better() -> None:
    rng = np.random.default_rng(2)
    evidence, _ = planted(400)
    wrong = rng.random(400) < sigmoid(
        4 * evidence.column("largest") - 3
    )  # title says nothing: fitting it only adds noise
    found = fitted(evidence, wrong, ridge=0.0)
    if found.after.average_precision > found.before.average_precision:
        pytest.fail("this seed was chosen so that noise loses")
    assert found.kept
    assert found.coefficients == {}
    assert found.slope == pytest.approx(4, rel=0.3)
    kept = fitted(*planted(), keep=True)
    assert kept.kept
    assert kept.coefficients == {}


def test_the_readout_is_fitted_near_what_the_old_one_does_to_logits() -> None:
    """The old coefficients times the slope, which the new ones have in them; thresholds by logits out of fold."""
    evidence, wrong = planted(2000)
    card = BundleCard.model_validate(
        {"readout": {"coefficients": {"largest": 0.5, "title": 0.25}}, "calibration": {"slope": 4.0}}
    )
    every = np.ones(2000, bool)
    words, names = Words(every, every, wrong), feature_names(card, evidence, synthetic=False)
    found = refit(card, evidence, words, names=names, ridge=30.0, folds=3, seed=1)
    given = {"prior_F": np.array([2.0, 1.0]), "ridge": 30.0, "least_scale": LEAST_SCALE}
    whole = fit(evidence.feature_WF, wrong, **given)
    assert not found.kept
    assert list(found.coefficients.values()) == pytest.approx(whole.coefficient_F, rel=1e-5)
    assert found.intercept == pytest.approx(whole.intercept, rel=1e-5)
    part = folds_of(evidence.document_W, wrong, folds=3, seed=1)
    for fold in range(3):
        others = fit(evidence.feature_WF[part != fold], wrong[part != fold], **given)
        assert found.logit_W[part == fold] == pytest.approx(others.logit(evidence.feature_WF[part == fold]))
    assert np.abs(found.logit_W - whole.logit(evidence.feature_WF)).max() > 0.01
    assert (found.slope, found.shift) == pytest.approx(platt(found.logit_W, wrong), rel=1e-5)


def test_parts_share_no_document_and_deal_out_those_with_errors() -> None:
    document = np.repeat(np.arange(30), 4)
    erring = (document % 5 == 0) & (np.arange(120) % 4 == 0)  # six documents
    part = folds_of(document, erring, folds=3, seed=0)
    assert [len(set(part[document == at])) for at in range(30)] == [1] * 30
    assert [len(set(document[part == fold])) for fold in range(3)] == [10] * 3
    assert [int(erring[part == fold].sum()) for fold in range(3)] == [2] * 3
    assert part.tolist() != folds_of(document, erring, folds=3, seed=1).tolist()


@pytest.mark.parametrize("erring", [(5,), (5, 6)])
def test_a_part_without_errors_makes_no_readout_seem_better(erring: tuple[int, ...]) -> None:
    """A part that had all errors kept raw old logits, on another scale: .23 for .036, with nothing to learn."""
    rng = np.random.default_rng(0)
    document, seen, zero = np.repeat(np.arange(12), 500), np.ones(6000, bool), np.zeros(6000, np.int64)
    old = rng.normal(size=6000) - 3
    wrong = np.isin(document, erring) & (rng.random(6000) < sigmoid(1.2 * old + 2))
    evidence = Evidence(("largest",), document, zero, zero + 1, old[:, None].astype(np.float32), seen, ~seen)
    for seed in range(6):
        words = Words(seen, seen, wrong)
        # A monotone function of the old logit can't order words better.
        found = refit(BundleCard(), evidence, words, names=("largest",), ridge=30.0, folds=5, seed=seed)
        assert found.kept
        assert (found.after is None) == (len(erring) == 1), "dealt out, two documents lie in two parts"
        if found.after is not None:
            assert found.after.average_precision <= found.before.average_precision + 0.01


def test_what_cannot_be_cross_validated_is_said(tiny_bundle: Path) -> None:
    evidence, wrong = planted()
    wrong &= evidence.document_W == 7
    wrong[7 * 20] = True
    truth = Truth(np.ones_like(wrong), wrong, {}, int(evidence.document_W[-1]) + 1)
    source = {"data": ["it"], "corrupted": False, "documents": truth.documents}
    labelled = SimpleNamespace(synthetic=False, judged=False, source=source)
    measured = Measured(SimpleNamespace(bundle=load_bundle(str(tiny_bundle))), labelled, evidence, truth)  # type: ignore[arg-type]
    given = {"config": CalibrateConfig(), "precision": 0.5, "expected": None, "seed": 0}
    found = calibrate(measured, **given, keep=False)
    assert UNFITTED in found.notes
    assert found.card["metrics"]["calibration"]["cross_validated"]["after"] is None
    assert "kept: average precision" in section(found, synthetic=False)
    assert UNFITTED not in calibrate(measured, **given, keep=True).notes


def test_few_documents_leave_the_bundle_without_an_interval(tiny_bundle: Path, tmp_path: Path) -> None:
    evidence, wrong = planted()
    bundle = load_bundle(str(tiny_bundle))
    for words, given in ((20, True), (1000, False)):
        fewer = replace(evidence, document_W=np.arange(6000) // words)
        truth = Truth(np.ones(6000, bool), wrong, {}, 6000 // words)
        source = {"data": ["it"], "corrupted": False, "documents": truth.documents}
        labelled = SimpleNamespace(synthetic=False, judged=False, source=source)
        measured = Measured(SimpleNamespace(bundle=bundle), labelled, fewer, truth)  # type: ignore[arg-type]
        config = CalibrateConfig(precisions=(0.2,))
        found = calibrate(measured, config=config, precision=0.2, expected=None, seed=0, keep=True)
        card = BundleCard.model_validate(found.card)
        assert card.flag_precision is not None
        assert [card.flag_precision[name] is not None for name in ("low", "high")] == [given] * 2
        assert (FEW_DOCUMENTS in found.notes) == (not given)
        assert (" (–) |" in section(found, synthetic=False)) == (not given)
        assert precision_note(replace(bundle, card=card), Tally.zero(), flag=None)


@pytest.mark.parametrize(
    ("words", "each", "wrong", "warned"), [(6000, 20, 50, False), (6000, 20, 49, True), (380, 20, 50, True)]
)
def test_what_rests_on_little_is_said(tiny_bundle: Path, words: int, each: int, wrong: int, warned: bool) -> None:
    """One wrong word in six sentences made a bundle without a word of doubt."""
    evidence, _ = planted(words)
    # Some of the likeliest, so that the labels do not contradict the model.
    wrong_W = np.isin(np.arange(words), np.argsort(-evidence.column("largest"))[: 3 * wrong : 3])
    truth = Truth(np.ones(words, bool), wrong_W, {}, words // each)
    source = {"data": ["it"], "corrupted": False, "documents": truth.documents}
    labelled = SimpleNamespace(synthetic=False, judged=False, source=source)
    measured = Measured(SimpleNamespace(bundle=load_bundle(str(tiny_bundle))), labelled, evidence, truth)  # type: ignore[arg-type]
    found = calibrate(measured, config=CalibrateConfig(), precision=0.5, expected=None, seed=0, keep=True)
    told = [note for note in found.notes if "this rests on" in note]
    assert told == [note for note in found.notes if f"(wrong words: {wrong}, documents: {words // each};" in note]
    assert bool(told) == warned


def test_made_up_errors_teach_only_what_holds_for_others() -> None:
    evidence, _ = planted(200)
    wrong = np.arange(200) < 120
    kinds = {"spelling": np.arange(200) < 60, "ocr_light": (np.arange(200) >= 60) & (np.arange(200) < 100)}
    kinds["shuffled"] = (np.arange(200) >= 100) & (np.arange(200) < 120)
    truth = Truth(np.ones(200, bool), wrong, kinds, 10)
    words = choose_words(evidence, truth, kinds["shuffled"], synthetic=True)
    assert words.chosen_W.sum() == 180
    assert words.fitted_W.sum() == 60 + 80
    real = choose_words(evidence, truth, kinds["shuffled"], synthetic=False)
    assert real.fitted_W.sum() == 180
    few = Truth(np.ones(200, bool), wrong, {"ocr_light": kinds["ocr_light"]}, 10)
    assert choose_words(evidence, few, kinds["shuffled"], synthetic=True).fitted_W.sum() == 180
    assert feature_names(BundleCard(), evidence, synthetic=True) == ("largest",)


def test_damage_lends_the_others_no_precision(tiny_bundle: Path) -> None:
    """Words that rules flag, all rightly, make no threshold lower."""
    evidence, wrong = planted()
    sure = np.zeros(len(wrong), bool)
    sure[::5] = True
    scorer = SimpleNamespace(bundle=load_bundle(str(tiny_bundle)))
    labelled = SimpleNamespace(
        synthetic=False, judged=False, source={"data": ["it"], "corrupted": False, "documents": 300}
    )
    thresholds = []
    for damaged, counted in ((sure, np.ones_like(sure)), (np.zeros_like(sure), ~sure)):
        truth = Truth(counted, wrong | sure, {}, int(evidence.document_W[-1]) + 1)
        measured = Measured(scorer, labelled, replace(evidence, damaged_W=damaged), truth)  # type: ignore[arg-type]
        config = CalibrateConfig(precisions=(0.4,))
        found = calibrate(measured, config=config, precision=0.5, expected=None, seed=0, keep=True)
        thresholds.append([threshold.threshold for threshold in found.thresholds])
    assert thresholds[0] == thresholds[1]
    assert None not in thresholds[0]


def test_the_expected_rate_is_that_of_all_words(tiny_bundle: Path) -> None:
    """It was that of all words for the table and that of undamaged ones for probabilities and thresholds."""
    evidence, wrong = planted(20_000)
    sure = np.zeros(len(wrong), bool)
    sure[::10] = True
    wrong |= sure
    source = {"data": ["it"], "corrupted": False, "documents": 1000}
    labelled = SimpleNamespace(synthetic=False, judged=False, source=source)
    truth = Truth(np.ones_like(sure), wrong, {}, int(evidence.document_W[-1]) + 1)
    scorer = SimpleNamespace(bundle=load_bundle(str(tiny_bundle)))
    measured = Measured(scorer, labelled, replace(evidence, damaged_W=sure), truth)  # type: ignore[arg-type]
    config = CalibrateConfig(precisions=(0.2,))
    found = calibrate(measured, config=config, precision=0.2, expected=0.02, seed=0, keep=False)
    # In a corpus of which 2 % of all words are wrong, one of those that rules leave open is with these odds:
    odds = 0.02 / wrong.mean() * (wrong & ~sure).sum() / (0.98 / (1 - wrong.mean()) * (~wrong).sum())
    p = sigmoid(found.fit.slope * found.fit.logit_W + found.fit.shift)[~sure]
    weight = np.where(wrong, 0.02 / wrong.mean(), 0.98 / (1 - wrong.mean()))[~sure]
    assert np.average(p, weights=weight) == pytest.approx(odds / (1 + odds), rel=0.05)
    row = found.thresholds[0]
    flagged = p.astype(np.float32) >= row.threshold
    assert row.precision == pytest.approx(np.average(wrong[~sure][flagged], weights=weight[flagged]))
    assert row.flagged == pytest.approx(weight[flagged].sum() / weight.sum())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("corpus") / "clean.parquet"
    pq.write_table(pa.table({"text": sentences(120, seed=5)}), path)
    return str(path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "model")


def test_a_new_bundle_is_written(model: Path, corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, plot = tmp_path / "new", tmp_path / "reliability.png"
    args = ["calibrate", corpus, "--corrupt", "--model", str(model), "--seed", "1", "--expected-rate", "0.02", "--json"]
    wanted = ["--set", "precisions=[0.02, 0.03, 0.9]", "--precision", "0.03"]
    assert main([*args, *wanted, "--output", str(output), "--plot", str(plot)]) == 0
    told = json.loads(capsys.readouterr().out)
    before, after = load_bundle(str(model)), load_bundle(str(output))
    assert told["digest"] == after.digest != before.digest
    assert any("made by a program" in note for note in told["notes"])
    card = after.card
    assert card.calibration != before.card.calibration
    assert card.thresholds.floor <= card.thresholds.flag
    assert card.thresholds.review <= card.thresholds.drop
    precision = card.flag_precision
    assert precision is not None
    assert precision["low"] <= precision["measured"] <= precision["high"]
    assert precision["held_out"] == pytest.approx(card.metrics["calibration"]["thresholds"][1]["held_out"], abs=1e-4)
    assert "clean.parquet" in precision["on"]
    assert str(tmp_path.parent) not in json.dumps(told["bundle"])
    measured = card.metrics["calibration"]
    assert measured["expected_rate"] == 0.02
    assert measured["calibration_error"]["after"] < 0.02
    assert [measured["candidates"][which]["least"] for which in ("before", "after")] == [0.05, 0.05]
    assert [row["wanted"] for row in measured["thresholds"]] == [0.02, 0.03, 0.9]
    readme = (output / "README.md").read_text()
    assert readme.count("## Calibration") == 1
    assert "errors made by" in readme
    assert "over candidates (words of probability 0.05 or more) " in readme
    assert "| 0.9 | not reached | | | |" in readme
    assert [row["held_out"] is None for row in measured["thresholds"]] == [False, False, True]
    assert re.search(r"\| 0\.02 \| [\d.]+ \| 0\.\d{3} \(0\.\d{3} to 0\.\d{3}\) \| 0\.\d{3} \| [01]\.\d{3} \|\n", readme)
    assert HELD_OUT[1:] in readme
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert (model / "bundle.json").read_text() != (output / "bundle.json").read_text()
    assert not list(tmp_path.glob(".new-*"))


def test_notes_are_of_the_text_and_of_the_bundle_that_was_written(
    tmp_path: Path, corpus: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = make_tiny_bundle(tmp_path / "fresh", card={"calibration": {}})
    write_lexicon(["the"], [9], total=9, sink=fresh / LEXICON_FILE)
    (warning,) = load_bundle(str(fresh)).warnings
    args = ["calibrate", corpus, "--corrupt", "--model", str(fresh), "--set", "input.documents=40", "--keep-readout"]
    assert main([*args, "--output", str(tmp_path / "new"), "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert sum("is the text in the model's language?" in note for note in notes) == 1
    assert warning not in notes
    assert not any("is not calibrated" in note for note in notes)


def test_a_precision_out_of_reach_is_said(model: Path, corpus: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A network of random weights finds nothing."""
    args = ["calibrate", corpus, "--corrupt", "--model", str(model), "--in-place", "--precision", "0.99"]
    assert main([*args, "--set", "precisions=[0.95]"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "no threshold reaches a precision of 0.99 here" in told
    assert "not reached" in told
    assert "candidates: 0.05 or more" in told
    assert HELD_OUT[-40:] in told
    card = load_bundle(str(model)).card
    assert card.flag_precision is None
    assert card.thresholds.flag == 0.5
    assert load_bundle(str(model)).warnings == ()
    first = (model / "README.md").read_text()
    assert main(args) == 0
    assert (model / "README.md").read_text().count("## Calibration") == first.count("## Calibration") == 1


def test_what_is_refused(model: Path, corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["calibrate", corpus, "--corrupt", "--model"]
    for args, word in (
        ([*given, str(model)], "--output DIRECTORY"),
        ([*given, str(model), "--in-place", "--output", str(tmp_path / "x")], "--output DIRECTORY"),
        ([*given, str(model), "--output", str(model)], "is there already"),
        ([*given, "default", "--in-place"], "ships with the program"),
        ([*given, str(model), "--in-place", "--precision", "1.5"], "not between 0 and 1"),
        ([*given, str(model), "--in-place", "--precision", "abc"], "abc is not between 0 and 1"),
        ([*given, str(model), "--in-place", "--expected-rate", "nan"], "nan is not between 0 and 1"),
        ([*given, str(model), "--output", "s3://bucket/x"], "local directory"),
    ):
        assert main(args) == 2, args
        assert word in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_sections_of_a_model_card() -> None:
    card = "# M\n\ntext\n\n## Calibration\n\nold\n\n## Licence\n\nfree\n"
    assert with_section(card, "Calibration", "new") == "# M\n\ntext\n\n## Calibration\n\nnew\n\n## Licence\n\nfree\n"
    assert with_section("# M\n", "Lexicon", "words") == "# M\n\n## Lexicon\n\nwords\n"


@pytest.mark.parametrize(
    ("text", "span", "told"),
    [
        ("The man went to the house. " * 3, (0, 80, "foreign"), "stand in errors of whole documents (foreign), 0 are"),
        ("The caf\ufffd was good.", (4, 8, "lost"), "0 stand in errors of whole documents, 12 are damaged"),
    ],
)
def test_errors_that_teach_nothing_are_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, span: tuple[int, int, str], told: str
) -> None:
    """A traceback: a logistic regression needs rows of both kinds."""
    start, end, kind = span
    spans = [[{"start": start, "end": end, "kind": kind}] if at % 2 else [] for at in range(24)]
    pq.write_table(pa.table({"text": [text] * 24, "spans": spans}), tmp_path / "some.parquet")
    args = ["calibrate", str(tmp_path / "some.parquet"), "--model", str(model), "--output", str(tmp_path / "new")]
    assert main(args) == 2
    error = capsys.readouterr().err
    assert "words are wrong, and calibrate can learn from none of them" in error
    assert told in error
    assert not (tmp_path / "new").exists()
