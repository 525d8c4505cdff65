from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from rtdscan.pipeline import config as config_module
from rtdscan.pipeline.config import (
    ScanConfig,
    describe,
    dump_yaml,
    load_config,
    redacted,
    reference_markdown,
    resolved,
)
from rtdscan.pipeline.options import is_secret
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.settings import MixtureSettings, ScoreSettings, Section

CONFIGS = Path(__file__).parent.parent / "configs"
CLASSES: dict[str, type[Section] | None] = {
    "local": ScanConfig,
    "small-memory": ScanConfig,
    "gpu": ScanConfig,
    "chinese-corruption": MixtureSettings,
    "chinese": ScanConfig,
    "nightly": ScanConfig,
    "ray": ScanConfig,
    "kuberay": None,  # tested in test_kuberay
    "flink": ScanConfig,
    "dataflow": ScanConfig,
    "pretrain": None,  # tested with the training
}
"""First part of a config file's name -> what it configures."""


def write(folder: Path, text: str, name: str = "c.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def message(*, files: Any = (), sets: Any = (), cls: type[Section] = ScanConfig) -> str:
    with pytest.raises(UserError) as caught:
        load_config(cls, files=files, sets=sets)
    text = str(caught.value)
    assert "\n" not in text
    return text


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# Merging


def test_later_files_win_and_sets_win_over_files(tmp_path: Path) -> None:
    first = write(tmp_path, "batch_tokens: 100\nthresholds: {flag: 0.6, drop: 0.9}\nignore: [url, email]\n", "1.yaml")
    second = write(tmp_path, "thresholds:\n  flag: 0.7\nignore: [number]\nbeam: {a: 1}\n", "2.yaml")
    config = load_config(ScanConfig, files=[first, str(second)], sets=["thresholds.flag=0.8", "beam.b=[x, y]"])
    assert config.batch_tokens == 100
    assert (config.thresholds.flag, config.thresholds.drop) == (0.8, 0.9)
    assert config.ignore == ("number",)
    assert config.beam == {"a": 1, "b": ["x", "y"]}


def test_what_the_program_decides_wins(tmp_path: Path) -> None:
    config = load_config(ScanConfig, sets=["model=a", "unit.text_mb=2"], extra={"model": "b", "unit": {"text_mb": 3}})
    assert (config.model, config.unit.text_mb) == ("b", 3)


OPTIONS = {
    "model": st.text(max_size=8),
    "batch_tokens": st.integers(64, 10**6),
    "thresholds.flag": st.floats(0, 1) | st.none(),
    "thresholds.not_ok": st.sampled_from(["keep", "review", "drop"]),
    "ignore": st.lists(st.sampled_from(["url", "email", "number", "code"]), max_size=4),
    "output.words": st.booleans(),
    "output.columns": st.lists(st.text(max_size=5), max_size=3),
    "input.text": st.text(max_size=8) | st.none(),
    "workers": st.integers(1, 99) | st.just("auto"),
    "beam": st.dictionaries(st.from_regex(r"[b-h]{1,5}", fullmatch=True), st.integers() | st.text(max_size=5)),
}


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


@settings(max_examples=40)
@given(values=st.fixed_dictionaries({}, optional=OPTIONS), data=st.data())
def test_where_a_value_is_said_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("config")
    expected = load_config(ScanConfig, sets=[f"{key}={yaml.safe_dump(value)}" for key, value in values.items()])
    for key, value in values.items():
        found = expected.model_dump(mode="json")
        for part in key.split("."):
            found = found[part]
        assert found == value
    files, sets = [], []
    for number, (key, value) in enumerate(values.items()):
        if data.draw(st.booleans(), label=f"{key} in a file"):
            files.append(write(folder, yaml.safe_dump(nested(key, value)), f"{number}.yaml"))
        else:
            sets.append(f"{key}={yaml.safe_dump(value)}")
    assert load_config(ScanConfig, files=files, sets=sets) == expected
    again = write(folder, dump_yaml(expected), "again.yaml")
    assert load_config(ScanConfig, files=[again]) == expected


@pytest.mark.parametrize("text", ["", "# nothing\n", "thresholds:\n  # flag: 0.5\nbeam:\nunit:\n", "\ufeff{}"])
def test_a_file_that_says_nothing_changes_nothing(tmp_path: Path, text: str) -> None:
    first = write(tmp_path, "unit: {text_mb: 9}\n", "first.yaml")
    assert load_config(ScanConfig, files=[write(tmp_path, text)]) == ScanConfig()
    assert load_config(ScanConfig, files=[first, write(tmp_path, text)]).unit.text_mb == 9


def test_numbers_as_people_write_them() -> None:
    config = load_config(ScanConfig, sets=["thresholds.floor=1e-3", "batch_tokens=10_000", "unit.text_mb=8"])
    assert (config.thresholds.floor, config.batch_tokens, config.unit.text_mb) == (0.001, 10_000, 8.0)


def test_environment_variables_are_not_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_PLACE", "/x")
    config = load_config(ScanConfig, files=[write(tmp_path, "model: $SECRET_PLACE/${SECRET_PLACE}")])
    assert config.model == "$SECRET_PLACE/${SECRET_PLACE}"


# Word lists


def test_a_word_list_lies_beside_the_file_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep", "# products\n\nAcmé\r\n  two words \nAcmé\n产品\n", "words.txt")
    file = write(tmp_path / "deep", "allow: words.txt\n")
    monkeypatch.chdir(tmp_path)
    expected = ("Acmé", "two words", "产品")
    assert load_config(ScanConfig, files=[file]).allow == expected
    assert load_config(ScanConfig, sets=["allow=deep/words.txt"]).allow == expected
    assert load_config(ScanConfig, files=[file], sets=["allow=[a, b]"]).allow == ("a", "b")


def test_a_word_list_that_cannot_be_read(tmp_path: Path) -> None:
    file = write(tmp_path, "model: x\nallow: no.txt\n")
    assert message(files=[file]).startswith(f"{file}:2: allow")
    assert "No such file" in message(files=[file])
    (tmp_path / "no.txt").write_bytes(b"ok\n\xff\n")
    assert "not UTF-8 at byte 3" in message(files=[file])


# Errors


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "\n\nthresholds:\n  flag: 1.5\n",
            [":4: thresholds.flag is 1.5; expected number or null, at least 0 and at most"],
        ),
        ("engine: cuda\n", [':1: engine is "cuda"; expected one of auto, openvino, torch']),
        (
            "model: x\nignore:\n- url\n- phone\n",
            [':4: ignore[1] is "phone"; expected list of url, email, number, code'],
        ),
        ("ignore: url\n", [':1: ignore is "url"; expected list of url']),
        ("workers: many\n", [':1: workers is "many"; expected whole number or auto, at least 1']),
        ("workers: 0\n", [":1: workers is 0; expected whole number or auto, at least 1"]),
        ("threads: true\n", [":1: threads is true; expected whole number"]),
        ("batch_tokens: 99.5\n", [":1: batch_tokens is 99.5; expected whole number, at least 64"]),
        ("model: 5\n", [":1: model is 5; expected text"]),
        ("input: {sample: 0}\n", [":1: input.sample is 0; expected number, above 0 and at most 1"]),
        ("input: {sample: .nan}\n", [":1: input.sample is NaN"]),
        ("unit: {text_mb: .inf}\n", [":1: unit.text_mb is Infinity"]),
        ("output:\n  words: 3\n", [":2: output.words is 3; expected true or false"]),
        ("output: yes\n", [":1: output is true; expected a section with the keys output.words, output.tokens"]),
        ("beam: [a]\n", [":1: beam is", "expected mapping"]),
        ("beam: {runner: FlinkRunner}\n", [':1: beam has the key "runner"']),
        ("beam:\n  --temp: x\n", ['beam has the key "--temp"']),
        ("runner: Flink\n", [':1: runner is "Flink"; expected local']),
        ("runner: DaskRunner\n", [":1: runner is DaskRunner, which loses elements"]),
        ("thresholds:\n  floor: 0.6\n  flag: 0.5\n", [":2: thresholds.floor is 0.6; expected at most thresholds.flag"]),
        (
            "thresholds:\n  drop: 0.1\n  review: 0.2\n",
            [":3: thresholds.review is 0.2; expected at most thresholds.drop"],
        ),
        ("a:\n  b: 1\nengine: x\nthreads: 0\n", ["more wrong option"]),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_what_was_expected(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    file = write(tmp_path, text)
    said = message(files=[file])
    assert said.startswith(f"{file}:")
    assert all(part in said for part in parts), said


@pytest.mark.parametrize(
    ("text", "line", "key", "advice"),
    [
        ("thresholds:\n  flagg: 1\n", 2, "thresholds.flagg", "did you mean thresholds.flag?"),
        ("\ntreshold:\n  flag: 1\n", 3, "treshold.flag", "did you mean thresholds.flag?"),
        ("flag: 1\n", 1, "flag", "did you mean thresholds.flag?"),
        ("Model: 1\n", 1, "Model", "did you mean model?"),
        ("zzzz: 1\n", 1, "zzzz", "known keys: model, engine,"),
    ],
)
def test_an_unknown_key_is_an_error_with_advice(tmp_path: Path, text: str, line: int, key: str, advice: str) -> None:
    file = write(tmp_path, text)
    said = message(files=[file])
    assert said.startswith(f"{file}:{line}: unknown key {key} (value 1); {advice}")


@given(position=st.integers(1, 40))
def test_the_line_is_the_line(tmp_path_factory: pytest.TempPathFactory, position: int) -> None:
    file = write(tmp_path_factory.mktemp("line"), "# a\n" * (position - 1) + "threads: x\n# b\n")
    assert message(files=[file]).startswith(f"{file}:{position}: threads")


def test_the_place_is_where_the_value_comes_from(tmp_path: Path) -> None:
    good, bad = write(tmp_path, "\nthreads: 2\n", "good.yaml"), write(tmp_path, "threads: x\n", "bad.yaml")
    assert message(files=[good, bad]).startswith(f"{bad}:1: threads")
    assert message(files=[bad, good], sets=["threads=y"]).startswith('--set threads: threads is "y"')
    assert message(files=[good], sets=["thresholds={flag: 7}"]).startswith("--set thresholds: thresholds.flag is 7")
    assert load_config(ScanConfig, files=[bad, good]).threads == 2


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [1\nb: 2\n", ":2: not valid YAML: "),
        ("model: a\nthreads: 1\nmodel: b\n", ":3: model is given twice, first in line 1"),
        ("unit:\n  text_mb: 1\n  text_mb: 1\n", ":3: unit.text_mb is given twice, first in line 2"),
        ("- model\n", ":1: expected a mapping of keys to values"),
        ("just text\n", ":1: expected a mapping of keys to values"),
        ("a: 1\n---\nb: 2\n", "not valid YAML: expected a single document"),
        ("model: !!python/object/apply:os.system [ls]\n", ":1: not valid YAML: could not determine a constructor"),
        ("off: 1\n", ":1: a key must be text; put off into quotes"),
        ("beam: {x: 2024-99-99}\n", "not valid YAML"),
        ("beam: &a {b: *a}\n", "nested too deeply"),
        ("model: \x01\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_not_a_config(tmp_path: Path, text: str, part: str) -> None:
    file = write(tmp_path, text)
    said = message(files=[file])
    assert said.startswith(f"{file}:"), said
    assert part in said


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert message(files=[tmp_path / "no.yaml"]) == f"config file {tmp_path}/no.yaml: No such file or directory"
    assert "Is a directory" in message(files=[tmp_path])
    (tmp_path / "latin.yaml").write_bytes("model: é".encode("latin-1"))
    assert "latin.yaml: not UTF-8 at byte 7" in message(files=[tmp_path / "latin.yaml"])
    assert "config file a\\x00b" in message(files=["a\0b"]).replace("\0", "\\x00")


@pytest.mark.parametrize(
    ("option", "part"),
    [
        ("threads", "--set threads: expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("a..b=3", "expected KEY=VALUE"),
        ("model=[1", "--set model: not valid YAML"),
        ("model.name=x", '--set model.name: model is {"name": "x"}; expected text'),
        ("model={a: 1, a: 2}", "--set model: a is given twice"),
    ],
)
def test_a_wrong_set(option: str, part: str) -> None:
    assert part in message(sets=[option])


def test_a_required_option_that_is_missing(tmp_path: Path) -> None:
    class Needs(Section):
        place: str = Field(description="where")

    assert message(cls=Needs) == "config: place is missing and has no default"
    assert describe(Needs)[0].default == "required"


def test_a_long_value_is_cut() -> None:
    assert len(message(sets=[f"engine={'x' * 10_000}"])) < 250


# Documentation


def test_every_option_is_described() -> None:
    options = describe(ScanConfig)
    assert [o.key for o in options if not o.description or not o.type] == []
    assert [o.key for o in options] == [key for key, _ in leaves(ScanConfig().model_dump())]
    assert all(len(o.description) < 120 and not o.description[0].isupper() for o in options)


def test_options_in_words() -> None:
    docs = {option.key: option for option in describe(ScanConfig)}
    assert docs["precision"].allowed == "auto, int8, bfloat16, float32"
    assert (docs["thresholds.flag"].type, docs["thresholds.flag"].default) == ("number or null", "null")
    assert docs["thresholds.flag"].allowed == "at least 0 and at most 1"
    assert docs["workers"].expected == "whole number or auto, at least 1"
    assert docs["batch_tokens"].expected == "whole number, at least 64"
    assert docs["beam"].expected == "mapping"


def test_the_reference_table_has_a_row_for_each_option() -> None:
    lines = reference_markdown(ScanConfig).splitlines()
    assert len(lines) == 2 + len(describe(ScanConfig))
    assert {line.replace("\\|", "").count("|") for line in lines} == {6}
    assert "| `batch_tokens` | whole number | `4096` | at least 64 |" in "\n".join(lines)


# Secrets

SECRET_NAMES = [
    *("s3_secret_access_key", "password", "authToken", "API_KEY", "gcp_credentials", "session_token", "encryption_key"),
    *("key", "account_key", "accessKeyId", "s3_access_key_id", "sas_key1", "private_key_pem", "signing_keys"),
]
secrets = st.from_regex(r"[A-Za-z0-9]{12,20}", fullmatch=True)


@given(name=st.sampled_from(SECRET_NAMES), secret=secrets)
def test_no_secret_is_shown(name: str, secret: str) -> None:
    beam = {
        name: secret,
        "nested": {name: [secret, {"x": secret}]},
        "experiments": [f"{name}={secret}", f"--{name} {name}: {secret}"],
        "environment_config": f'{{"env": {{"{name}": "{secret}"}}}}',
        "endpoint": f"https://me:{secret}@host/x?{name}={secret}&X-Amz-Signature={secret}&sig={secret}#a",
    }
    config = ScanConfig(beam=beam, model=f"s3://{secret}:{secret}@bucket/key=1/m?part=2&token={secret}")
    assert secret not in dump_yaml(config)
    shown = resolved(config)
    assert shown["model"] == "s3://***@bucket/key=1/m?part=2&token=***"
    assert shown["beam"][name] == "***"
    assert shown["beam"]["nested"] == {name: ["***", {"x": "***"}]}
    assert config.beam["nested"] == beam["nested"], "the config itself keeps what Beam needs"


def test_what_is_no_secret_is_shown() -> None:
    plain = {
        "batch_tokens": 7,
        "limits": {"document_tokens": 9},
        "output": {"tokens": True},
        "model": "google/electra-small-discriminator@main",
        "beam": {"temp_location": "gs://b/t", "dataflow_kms_key": "projects/p/k", "max_num_workers": 3, "design": "x"},
    }
    assert redacted(plain) == plain
    assert not is_secret("batch_tokens")


def test_no_innocent_option_of_beam_is_refused_as_a_secret() -> None:
    """`--enable_hot_key_logging` was, and `--allow_non_deterministic_key_coders`."""
    parser = _BeamArgumentParser()
    for cls in PipelineOptions.__subclasses__():
        cls._add_argparse_args(parser)
    flags = {flag for action in parser._actions for flag in action.option_strings}
    assert {"--enable_hot_key_logging", "--allow_non_deterministic_key_coders", "--dataflow_kms_key"} <= flags
    own = {"--azure_connection_string", "--s3_access_key_id", "--s3_secret_access_key", "--s3_session_token"}
    assert {flag for flag in flags if is_secret(flag)} == own
    for name in ("key_coders", "keyed_windows", "hot_key_logging", "kms_key", "keyspace", "primary_key_column"):
        assert not is_secret(name), name


def test_a_secret_in_an_error_is_not_shown(tmp_path: Path) -> None:
    said = message(files=[write(tmp_path, "beam_password: hunter2\n")])
    assert "unknown key beam_password (value ***)" in said
    assert "hunter2" not in message(files=[write(tmp_path, "beam:\n  password: hunter2\nengine: x\n")])
    assert "hunter2" not in message(files=[write(tmp_path, "engine: https://u:hunter2@x/\n")])


@pytest.mark.parametrize("option", ["beam.password=hunter2", "beam={a: {api_key: hunter2}}", "beam.x.token=hunter2"])
def test_a_secret_on_the_command_line_is_refused(option: str) -> None:
    said = message(sets=[option])
    assert "a --config file" in said
    assert "hunter2" not in said


# The files in configs/


def classes() -> list[tuple[Path, type[Section]]]:
    paths = sorted(CONFIGS.glob("*.yaml"))
    found = [(path, CLASSES[next(k for k in CLASSES if path.stem.startswith(k))]) for path in paths]
    return [(path, cls) for path, cls in found if cls is not None]


@pytest.mark.parametrize(("path", "cls"), classes(), ids=lambda value: getattr(value, "stem", ""))
def test_config_files_load_and_are_commented(path: Path, cls: type[Section]) -> None:
    text = path.read_text(encoding="utf-8")
    config = load_config(cls, files=[path])
    assert (config == cls()) == (path.stem == "local")
    assert text.startswith("# "), "what it is for"
    keys = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert sum("#" in line for line in keys) >= len(keys) / 2


def test_local_yaml_spells_out_every_default() -> None:
    spelled = dict(leaves(yaml.safe_load((CONFIGS / "local.yaml").read_text(encoding="utf-8"))))
    defaults = dict(leaves(ScanConfig().model_dump(mode="json")))
    assert spelled | {"gates": {}, "beam": {}} == defaults
    assert spelled["gates"] is spelled["beam"] is None, "{} would take away what an earlier file names"
    assert {path.stem for path, _ in classes()} >= {"local", "small-memory", "gpu", "chinese"}


def test_a_scan_has_all_the_options_of_scoring() -> None:
    assert issubclass(ScanConfig, ScoreSettings)
    assert set(config_module.__all__) <= set(vars(config_module))
    assert get_args(ScanConfig.model_fields["on_bad_file"].annotation) == ("fail", "quarantine")
