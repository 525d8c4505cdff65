"""Gates: which bounds make sense, what they say, and the counts by values of a column that they speak of."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtdscan.pipeline.config import ScanConfig, dump_yaml, load_config, resolved
from rtdscan.transforms import tally as tally_module
from rtdscan.transforms.drift import Baseline
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.gates import METRICS, Gate, GateError, Run, Verdict, judge, parse_gates, passed
from rtdscan.transforms.records import attribute_schema
from rtdscan.transforms.settings import OutputSettings
from rtdscan.transforms.tally import NULL, OTHER, Tally, tally_attributes

DIMS = 2


def rows(scores: list[float | None], *, flagged: int = 1, words: int = 10) -> pa.Table:
    """Rows of a shard; null scores failed."""
    schema = attribute_schema(OutputSettings(embedding="float32"), dims=DIMS)
    found = [
        {
            "row": at,
            "status": "failed" if score is None else "ok",
            "n_chars": 50,
            "n_words": 0 if score is None else words,
            "n_tokens": 0 if score is None else 2 * words,
            "n_windows": 0 if score is None else 1,
            "unk_share": None if score is None else 0.5,
            "score": score,
            "n_flagged": None if score is None else flagged,
            "embedding": None if score is None else [1.0, 0.0],
            "decision": "review" if score is None else "drop" if score > 0.5 else "keep",
        }
        for at, score in enumerate(scores)
    ]
    return pa.Table.from_pylist(found, schema=schema)


def tallied(scores: list[float | None], sources: list[Any] | None = None, **more: int) -> Tally:
    by = None if sources is None else pa.table({"source": sources})
    return tally_attributes(rows(scores, **more), file="f", by=by)


def run(tally: Tally, *, digest: str = "d1", scoring: str = "s1", bad: int = 0) -> Run:
    return Run(tally, "tiny", digest, scoring, bad)


def baseline(tally: Tally, *, digest: str | None = "d1", scoring: str = "s1") -> Baseline:
    return Baseline("2026-11-01", "2026-11-01", "tiny", digest, scoring, tally)


def verdicts(
    gates: Mapping[str, Any], tally: Tally, base: Baseline | None = None, **more: str
) -> list[tuple[str | None, float | None, str]]:
    """(value of the column, number, verdict) of each."""
    return [(v.of, v.value, v.verdict) for v in judge(parse_gates(gates), run(tally, **more), base)]


# Bounds


def test_each_metric_of_a_tally_has_a_gate() -> None:
    """METRICS is written twice, since `--help` must not wait for pyarrow."""
    assert list(METRICS) == list(Tally.zero().metrics())
    assert {part for part in METRICS.values() if part} <= set(METRICS)


@given(value=st.floats(0, 1), low=st.none() | st.floats(0, 1), high=st.none() | st.floats(0, 1))
def test_bounds_are_inclusive(value: float, low: float | None, high: float | None) -> None:
    within = (low if low is not None else -math.inf) <= value <= (high if high is not None else math.inf)
    assert Gate("rows", max=high, min=low).holds(value) == within


def test_a_gate_on_the_whole() -> None:
    tally = tallied([0.1, 0.7, None, 0.2])  # 3 of 30 words flagged, 1 of 4 rows failed, 1 dropped
    gates = {"flagged_share": {"max": 0.1}, "failed_share": {"max": 0.2}, "rows": {"min": 4, "max": 5}}
    gates["worse"] = {"metric": "drop_share", "max": 0.25}
    assert verdicts(gates, tally) == [
        (None, 0.1, "passed"),
        (None, 0.25, "failed"),
        (None, 4, "passed"),
        (None, 0.25, "passed"),
    ]
    found = judge(parse_gates(gates), run(tally), None)
    assert [verdict.bound for verdict in found] == ["<= 0.1", "<= 0.2", ">= 4 and <= 5", "<= 0.25"]
    assert [(verdict.gate, verdict.metric) for verdict in found][-1] == ("worse", "drop_share")
    assert not passed(found)
    assert passed((found[0], found[2], Verdict("x", "rows", "", None, None, None, "no baseline")))


def test_shares_of_nothing_are_not_judged() -> None:
    assert verdicts({"mean_score": {"min": 0.5}}, Tally.zero()) == [(None, None, "no data")]
    assert verdicts({"failed_share": {"max": 0.5}}, tallied([None])) == [(None, 1.0, "failed")]
    assert verdicts({"documents": {"min": 1}}, Tally.zero()) == [(None, 0, "failed")]


def test_a_run_of_which_nothing_could_be_scored_fails_without_a_gate() -> None:
    nothing = [("scored", 0, "failed")]
    for tally, expected in ((tallied([None]), nothing), (tallied([None, 0.1]), []), (Tally.zero(), [])):
        assert [(v.gate, v.value, v.verdict) for v in judge({}, run(tally), None)] == expected
    gates = {"rows": {"min": 1}, "failed_share": {"max": 0.5}}
    assert [v.gate for v in judge(parse_gates(gates), run(tallied([None])), None)] == ["rows", "failed_share"]
    assert [v.gate for v in judge(parse_gates({"rows": {"min": 1}}), run(tallied([None])), None)] == ["rows", "scored"]


def test_a_gate_on_inputs_that_cannot_be_read() -> None:
    gates = parse_gates({"bad_inputs": {"max": 1}})
    told = [judge(gates, run(Tally.zero(), bad=bad), None)[0] for bad in (0, 1, 2)]
    assert [(verdict.value, verdict.verdict) for verdict in told] == [(0, "passed"), (1, "passed"), (2, "failed")]


def test_a_gate_by_a_column() -> None:
    tally = tallied([0.1, 0.7, None, 0.9], ["a", "b", "a", None])
    gates = {"drop_share": {"max": 0.4, "by": "source"}}
    assert verdicts(gates, tally) == [(NULL, 1.0, "failed"), ("a", 0.0, "passed"), ("b", 1.0, "failed")]
    with pytest.raises(UserError, match=r"gates.drop_share: this OUTPUT was not counted by source; scan it again"):
        verdicts(gates, tallied([0.1]))
    assert verdicts(gates, Tally.zero()) == [(None, None, "no data")]


def test_a_source_that_sends_nothing_any_more_has_no_rows() -> None:
    now, base = tallied([0.1], ["a"]), baseline(tallied([0.1, 0.2], ["a", "b"]))
    assert verdicts({"rows": {"min": 1, "by": "source"}}, now, base) == [("a", 1, "passed"), ("b", 0, "failed")]
    assert verdicts({"mean_score": {"max": 1, "by": "source"}}, now, base)[1:] == []


def sites(*numbers: int) -> list[str]:
    return [f"site{number}.example" for number in numbers]


def found_in(sources: list[str]) -> Tally:
    return tallied([0.1] * len(sources), sources)


def test_a_live_source_among_more_than_are_named_was_said_to_have_no_rows() -> None:
    """New sources with smaller hashes push others, which are as alive as ever, into OTHER."""
    old = sites(*range(tally_module.VALUES))
    base = baseline(found_in(old))
    tonight = [*old, *(f"new{number}.example" for number in range(10))]
    gates = {"rows": {"min": 1, "by": "source"}, "documents": {"max": 2, "by": "source"}}
    found = judge(parse_gates(gates), run(found_in(tonight)), base)
    assert passed(found)
    unnamed = {verdict.of for verdict in found if verdict.verdict == "no data"} - {OTHER}
    assert unnamed
    assert unnamed < set(old)
    assert {v.note for v in found if v.of in unnamed} == {"not among the values that are counted by name, gone or not"}
    # OTHER holds ten sources of one row each: the sum of 10 says nothing about a bound of 2 on each.
    assert [(v.value, v.verdict) for v in found if v.of == OTHER] == [(None, "no data")] * 2
    shifts = parse_gates({"drift.ks_score": {"max": 0, "by": "source"}})
    drifts = judge(shifts, run(base.tally), baseline(found_in(tonight)))
    assert {v.note for v in drifts if v.of in unnamed} == {"the accepted run did not count it by name"}


def test_fewer_sources_than_before_were_said_to_have_lost_the_rest() -> None:
    """OTHER itself is no source: it is gone when all are counted by name again."""
    many = sites(*range(tally_module.VALUES + 5))
    named = sorted(set(found_in(many).by["source"]) - {OTHER})
    found = judge(parse_gates({"rows": {"min": 1, "by": "source"}}), run(found_in(named)), baseline(found_in(many)))
    assert {(verdict.of, verdict.verdict) for verdict in found} == {(name, "passed") for name in named}


@given(st.sets(st.integers(0, 9)), st.integers(1, 5))
def test_a_source_that_is_gone_is_known_by_its_hash(numbers: set[int], most: int) -> None:
    """Also beside OTHER: what would be counted by name if it had a row has none."""
    before, tally_module.VALUES = tally_module.VALUES, most
    try:
        counted = found_in(sites(*numbers)).by["source"]
        for site in set(sites(*range(10))) - set(counted):
            would_be_named = site in found_in([*sites(*numbers), site]).by["source"]
            absent = tally_module.surely_absent(site, counted)
            assert absent == (OTHER not in counted or would_be_named)
            assert not (absent and site in sites(*numbers))
    finally:
        tally_module.VALUES = before


def test_a_column_without_names_in_one_file_hides_what_is_gone() -> None:
    now = tallied([0.1], ["a"]) + tallied([0.1], pa.array([["b"]]))
    found = verdicts({"rows": {"min": 1, "by": "source"}}, now, baseline(tallied([0.1, 0.1], ["a", "b"])))
    assert found == [(OTHER, None, "no data"), ("a", 1, "passed"), ("b", None, "no data")]


# Drift


def test_drift_needs_an_accepted_run() -> None:
    gates = {"drift.psi_score": {"max": 0.25}, "drift.embedding_shift": {"max": 0.1}}
    now, shifted = tallied([0.1] * 10), tallied([0.9] * 10)
    assert verdicts(gates, now) == [(None, None, "no baseline")] * 2
    assert verdicts(gates, now, baseline(now)) == [(None, 0.0, "passed")] * 2
    found = verdicts(gates, now, baseline(shifted))
    assert [verdict for _, _, verdict in found] == ["failed", "passed"]
    note = judge(parse_gates(gates), run(now), baseline(shifted))[0].note
    assert "another population (usual bounds 0.1 and 0.25)" in note
    # Ten of each kind in two groups of ten: 6 to 4 or nearer in .82 of all splits, 7 to 3 in .16, further in .02.
    # So 19 of 20 give no more than 7 to 3: 2 * (.7 - .3) * ln(.7 / .3) = .68.
    assert note.endswith("; chance alone gives up to 0.68")


def test_a_group_too_small_for_its_bound_is_told() -> None:
    """PSI of .68 breaks the bound of .25, and so it does by chance: 7 to 3 in one group of ten, 3 to 7 in the other."""
    now, base = tallied([0.1] * 7 + [0.9] * 3), baseline(tallied([0.1] * 3 + [0.9] * 7))
    found = judge(parse_gates({"drift.psi_score": {"max": 0.25}}), run(now), base)[0]
    assert found.note.endswith("; too few documents: chance alone gives up to 0.68")
    many = judge(parse_gates({"drift.psi_score": {"max": 0.7}}), run(now), base)[0]
    assert many.note.endswith("; chance alone gives up to 0.68")


def test_scores_of_another_model_are_not_compared() -> None:
    now, base = tallied([0.1] * 10), baseline(tallied([0.9] * 10, words=100))
    gates = {f"drift.{name}": {"max": 0.0} for name in ("psi_score", "ks_score", "embedding_shift", "ks_length")}
    found = [verdict for _, _, verdict in verdicts(gates, now, base, digest="d2")]
    assert found == ["not comparable"] * 3 + ["failed"]  # lengths have nothing to do with the model
    note = judge(parse_gates(gates), run(now, digest="d2"), base)[0].note
    assert note.startswith("scored by another model: tiny d2, accepted tiny d1")
    same_model = judge(parse_gates(gates), run(now, scoring="s2"), base)[0]
    assert (same_model.verdict, same_model.value is not None) == ("failed", True)
    assert "with other settings than the accepted run" in same_model.note
    forced = baseline(base.tally, digest=None)  # accepted unfinished: only how it was scored is known
    assert verdicts(gates, now, forced)[0][2] == "failed"
    assert verdicts(gates, now, forced, scoring="s2")[0][2] == "not comparable"


def test_drift_by_a_column() -> None:
    base = baseline(tallied([0.1] * 4 + [0.2] * 4, ["a"] * 4 + ["b"] * 4))
    now = tallied([0.1] * 4 + [0.9] * 4 + [0.5], ["a"] * 4 + ["b"] * 4 + ["c"])
    gates = {"drift.ks_score": {"max": 0.5, "by": "source"}}
    assert verdicts(gates, now, base) == [("a", 0.0, "passed"), ("b", 1.0, "failed"), ("c", None, "no baseline")]
    uncounted = judge(parse_gates(gates), run(now), baseline(tallied([0.1])))
    assert {v.note for v in uncounted} == {"the accepted run was not counted by source"}


def test_a_baseline_is_read_as_it_was_written() -> None:
    written = baseline(tallied([0.1, None, 0.9], ["a", "b", "a"]))
    read = Baseline.from_fields(json.loads(json.dumps(written.to_fields())))
    assert written.tally.worst
    assert read.tally.worst == ()  # names of documents; nothing compares them
    assert read == Baseline.from_fields(json.loads(json.dumps(read.to_fields())))
    assert (read.tally.by, read.tally.scores, read.model_digest) == (written.tally.by, written.tally.scores, "d1")
    with pytest.raises(ValueError, match="format"):
        Baseline.from_fields({**written.to_fields(), "format": 2})


# Counts by values


VALUES = st.lists(st.tuples(st.sampled_from("abcdefgh") | st.none(), st.sampled_from([None, 0.25, 0.75])), max_size=12)


@given(VALUES, VALUES, VALUES, st.integers(1, 9))
def test_counts_by_value_add_up_in_any_order(a: list, b: list, c: list, most: int) -> None:
    """Also where there are more values than are kept."""
    before, tally_module.VALUES = tally_module.VALUES, most
    try:
        x, y, z, whole = (
            tallied([score for _, score in part], pa.array([value for value, _ in part], pa.string()))
            for part in (a, b, c, a + b + c)
        )
        assert ((x + y) + z).by == (x + (y + z)).by == (z + x + y).by == whole.by
    finally:
        tally_module.VALUES = before
    counted = whole.by["source"]
    assert len(set(counted) - {OTHER, NULL}) == min(most, len({value for value, _ in a + b + c} - {None}))
    assert sum(inner.rows for inner in counted.values()) == whole.rows
    assert sum(inner.flagged for inner in counted.values()) == whole.flagged
    for value, inner in counted.items():
        if value != OTHER:
            assert inner.rows == sum((of or NULL) == value for of, _ in a + b + c)
        assert not inner.worst
        assert not inner.embedding_sum
    assert Tally.from_json(whole.to_json()) == whole


def test_a_shard_from_before_there_were_columns_is_read() -> None:
    fields = json.loads(tallied([0.1]).to_json())
    del fields["by"]
    assert Tally.from_json(json.dumps(fields)) == tallied([0.1])


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (pa.array([1, 2, None], pa.int16()), {"1", "2", NULL}),
        (pa.array([True, False, True]), {"true", "false"}),
        (pa.array([0, 1, 1], pa.date32()), {"1970-01-01", "1970-01-02"}),
        (pa.array(["x", "y", None]).dictionary_encode(), {"x", "y", NULL}),
        (pa.array([b"\xff", b"y", None], pa.binary()), {"\ufffd", "y", NULL}),
        (pa.array(["x", "y", None], pa.string_view()), {"x", "y", NULL}),
        (pa.nulls(3), {NULL}),
        (pa.array([[1], [2], None]), {OTHER}),
        (pa.array(["w" * 99 + "ab", "w" * 99 + "ac", "w"]), {"w" * 99 + "a", "w"}),
        (pa.chunked_array([["x"], ["y", "x"]]), {"x", "y"}),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)
def test_values_of_any_type_have_names(values: pa.Array, names: set[str]) -> None:
    found = tallied([0.5, 0.5, None], values).by["source"]
    assert set(found) == names
    assert sum(inner.rows for inner in found.values()) == 3


# In the config


def test_gates_come_from_files_and_sets(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "gates:\n  flagged_share: {max: 0.05}\n  failed_share: {max: 0}\n  drift.psi_score: {max: 0.25}\n"
        "  s: {metric: rows, by: lang, min: 1}\ntally: {by: [source]}\n"
    )
    sets = ["gates.flagged_share.max=0.1", "gates.failed_share=false", "gates.mean_score={max: 0.3, min: null}"]
    config = load_config(ScanConfig, files=[tmp_path / "c.yaml"], sets=sets)
    assert config.gates == {
        "flagged_share": Gate("flagged_share", max=0.1),
        "drift.psi_score": Gate("drift.psi_score", max=0.25),
        "s": Gate("rows", min=1, by="lang"),
        "mean_score": Gate("mean_score", max=0.3),
    }
    assert config.counted == ("lang", "source")
    (tmp_path / "again.yaml").write_text(dump_yaml(config))
    assert load_config(ScanConfig, files=[tmp_path / "again.yaml"]) == config
    assert parse_gates(resolved(config)["gates"]) == config.gates
    set_alone = load_config(ScanConfig, sets=["gates.drift.psi_score.max=0.2"])
    assert set_alone.gates == {"drift.psi_score": Gate("drift.psi_score", max=0.2)}


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("flagged: {max: 1}\n  typo: {max: 1}", 3, "gates.typo has no metric of that name; expected `metric: …` with"),
        ("a: {metric: nonsense, max: 1}", 2, "gates.a.metric is nonsense; expected `metric: …` with one of rows,"),
        ("rows: {}", 2, "gates.rows has no bound; expected max, min or both"),
        ("rows: {max: null}", 2, "gates.rows has no bound"),
        ("rows: 5", 2, "gates.rows is not a mapping; expected bounds such as {max: 0.05}, or false"),
        ("rows: {max: many}", 2, "gates.rows.max is not a number"),
        ("rows: {max: true}", 2, "gates.rows.max is not a number"),
        ("rows: {max: .nan}", 2, "gates.rows.max is nan; expected a finite number"),
        ("rows:\n    max: 1\n    min: 2", 3, "gates.rows.max is 1, below its min, 2"),
        ("rows:\n    min: 2\n    mix: 2", 4, "unknown key gates.rows.mix; a gate has metric, max, min, by"),
        ("rows: {max: 1, by: 3}", 2, "gates.rows.by is not text"),
        ("drift.embedding_shift: {max: 1, by: s}", 2, "mean embeddings are not kept by column"),
        ("bad_inputs: {max: 1, by: s}", 2, "bad inputs are not counted by column"),
        ("drift.psi_score: {max: 1}\n  drift: {psi_score: {max: 1}}", 3, "gate drift.psi_score is given twice"),
    ],
)
def test_a_gate_that_makes_no_sense_is_named(tmp_path: Path, text: str, line: int, part: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"gates:\n  {text}\n")
    with pytest.raises(UserError) as error:
        load_config(ScanConfig, files=[file])
    assert str(error.value).startswith(f"{file}:{line}: ")
    assert part in str(error.value)


NIGHTLY = Path(__file__).parent.parent / "configs" / "nightly.yaml"
FLAT, NESTED = "gates: {drift.psi_length: {max: 0.25}}\n", "gates: {drift: {psi_length: {max: 0.25}}}\n"


@pytest.mark.parametrize("text", [FLAT, NESTED, NIGHTLY.read_text(encoding="utf-8")], ids=["flat", "nested", "nightly"])
def test_a_drift_gate_of_a_file_was_given_twice_by_a_set(tmp_path: Path, text: str) -> None:
    """`drift.psi_length` of the file and `drift: {psi_length: …}` of `--set` were not the same key."""
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")

    def gates(*sets: str) -> dict[str, Gate]:
        return load_config(ScanConfig, files=[file], sets=sets).gates

    others = {name: gate for name, gate in gates().items() if name != "drift.psi_length"}
    assert gates("gates.drift.psi_length.max=0.5") == others | {"drift.psi_length": Gate("drift.psi_length", max=0.5)}
    assert gates("gates.drift.psi_length.min=0.1")["drift.psi_length"] == Gate("drift.psi_length", max=0.25, min=0.1)
    assert gates("gates.drift.psi_length=false") == others
    assert not [name for name in gates("gates.drift=false") if name.startswith("drift.")]
    again = gates("gates.drift=false", "gates.drift.psi_length={max: 1}")
    assert [name for name in again if name.startswith("drift.")] == ["drift.psi_length"]
    with pytest.raises(UserError, match=r"--set gates.drift.psi_length.max: .* is not a number"):
        gates("gates.drift.psi_length.max=much")


def test_a_gate_may_be_called_drift(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("gates: {drift: {metric: drift.ks_score, max: 0.1}, drift.ks_length: {max: 1}}")
    config = load_config(ScanConfig, files=[tmp_path / "c.yaml"], sets=["gates.drift.max=0.2"])
    assert config.gates == {"drift": Gate("drift.ks_score", max=0.2), "drift.ks_length": Gate("drift.ks_length", max=1)}


def test_an_empty_mapping_takes_the_gates_of_a_file_away() -> None:
    """`--set 'gates={}'` did nothing, without a word."""
    assert load_config(ScanConfig, files=[NIGHTLY], sets=["gates={}"]).gates == {}
    sets = ["gates={}", "gates.rows.min=1"]
    assert load_config(ScanConfig, files=[NIGHTLY], sets=sets).gates == {"rows": Gate("rows", min=1)}


def test_gates_have_to_be_a_mapping() -> None:
    with pytest.raises(UserError, match=r"gates is .*expected mapping"):
        load_config(ScanConfig, sets=["gates=[rows]"])
    with pytest.raises(GateError):
        parse_gates({"nonsense": {"max": 1}})


# Secrets of notify


def test_nothing_of_a_webhook_but_its_host_is_shown(tmp_path: Path) -> None:
    secret = "T0123/B4567/hunter2"
    (tmp_path / "c.yaml").write_text(
        f"notify:\n  url: https://me:{secret[-7:]}@hooks.example.org:8443/services/{secret}?k={secret}\n"
        f"  command: [curl, -H, 'Authorization: Bearer {secret}', 'https://x/{secret}']\n"
    )
    config = load_config(ScanConfig, files=[tmp_path / "c.yaml"])
    assert secret in config.notify.url
    shown = resolved(config)["notify"]
    assert shown["url"] == "https://hooks.example.org:8443/***"
    assert shown["command"] == ["curl", "***", "***", "***"]
    assert "hunter2" not in dump_yaml(config)


@pytest.mark.parametrize(
    "text",
    [
        "url: hooks/hunter2",
        "url: [hunter2]",
        "url: 'http://['",
        "command: hunter2",
        "timeout: hunter2",
        "urll: hunter2",
    ],
)
def test_a_secret_in_an_error_is_not_shown(tmp_path: Path, text: str) -> None:
    for body in (f"notify: {{{text}}}\n", "notify: hunter2\n"):
        (tmp_path / "c.yaml").write_text(body)
        with pytest.raises(UserError) as error:
            load_config(ScanConfig, files=[tmp_path / "c.yaml"])
        assert "notify" in str(error.value)
        assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "option", ["notify.url=https://x/hunter2", "notify={url: http://x/hunter2}", "notify.command=[a, hunter2]"]
)
def test_a_webhook_on_the_command_line_is_refused(option: str) -> None:
    with pytest.raises(UserError, match="others can read a secret on a command line") as error:
        load_config(ScanConfig, sets=[option])
    assert "hunter2" not in str(error.value)
    assert load_config(ScanConfig, sets=["notify.url_env=HOOK"]).notify.url_env == "HOOK"
