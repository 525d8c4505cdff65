"""A mistyped option of Beam's is an error of one line; Beam itself takes it, and goes without."""

from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from rtdscan.pipeline.launchers.beam_options import check_names, pipeline_options
from rtdscan.transforms.errors import UserError


def told(runner: str, options: dict[str, Any], *arguments: str) -> str:
    def both() -> None:
        check_names(runner, options, arguments)
        pipeline_options(runner, options, arguments)

    with pytest.raises(UserError) as caught:
        both()
    (line,) = str(caught.value).splitlines()
    return line


def given(options: dict[str, Any], *arguments: str) -> dict[str, Any]:
    """What differs from Beam's defaults."""
    found: dict[str, Any] = pipeline_options("FlinkRunner", options, arguments).get_all_options(
        drop_default=True, retain_unknown_options=True
    )
    assert found.pop("runner") == "FlinkRunner"
    return found


@pytest.mark.parametrize(
    ("options", "arguments", "line"),
    [
        (
            {"max_num_worker": 20},
            [],
            "beam.max_num_worker is no option that Beam knows; did you mean beam.max_num_work",
        ),
        ({}, ["--max_num_worker=20"], "--max_num_worker is no option that Beam knows; did you mean --max_num_workers?"),
        ({}, ["--zzz", "20"], "--zzz is no option that Beam knows"),
        ({}, ["--num_workers=1", "2"], "2 after `--` belongs to no option; expected --name=value"),
        ({}, ["-x"], "-x after `--` belongs to no option"),
        ({"max_num_workers": "many"}, [], "beam.max_num_workers is \"many\": invalid int value: 'many'"),
        ({"max_num_workers": True}, [], "beam.max_num_workers is true: invalid int value: 'true'"),
        ({"max_num_workers": [20]}, [], "beam.max_num_workers is [20]; expected one value"),
        ({"machine_type": ["a", "b"]}, [], 'beam.machine_type is ["a", "b"]; expected one value'),
        ({"no_auth": "yes"}, [], 'beam.no_auth is "yes"; expected true or false'),
        ({"autoscaling_algorithm": "FAST"}, [], "invalid choice: 'FAST'"),
        ({}, ["--parallelism=many"], "--parallelism: invalid int value: 'many'"),
        ({}, ["--parallelism"], "--parallelism: expected one argument"),
    ],
)
def test_mistyped_options(options: dict[str, Any], arguments: list[str], line: str) -> None:
    """They were taken without a word, or with 150 lines of usage."""
    assert line in told("DataflowRunner", options, *arguments)


def test_a_job_server_may_know_more(capsys: pytest.CaptureFixture[str]) -> None:
    options = {"max_bundle_size": 8, "parallelizm": 8, "zzz": 1}
    check_names("FlinkRunner", options, ["--spam", "x", "--eggs=1", "--paralellism=8"])
    head, tail = "rtdscan: warning: ", "is not known here and is passed on as it is"
    assert capsys.readouterr().err.splitlines() == [
        f"{head}beam.parallelizm {tail}; did you mean beam.parallelism?",
        f"{head}beam.zzz {tail}",
        f"{head}--spam {tail}",
        f"{head}--eggs {tail}",
        f"{head}--paralellism {tail}; did you mean --parallelism?",
    ]
    assert given({"zzz": 1, "max_bundle_size": 8}, "--eggs=1") == {"zzz": 1, "max_bundle_size": 8, "eggs": "1"}
    assert "beam.max_bundle_size is \"few\": invalid int value: 'few'" in told(
        "FlinkRunner", {"max_bundle_size": "few"}
    )
    assert "belongs to no option" in told("FlinkRunner", {}, "--eggs=1", "stray")


def test_the_launcher_of_a_template_may_know_more(capsys: pytest.CaptureFixture[str]) -> None:
    check_names("DataflowRunner", {}, ["--template_location=gs://x", "--spam=1"])
    assert "warning: --spam is not known here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"parallelism": "8", "job_name": 7, "flink_version": "1.20"}, {"parallelism": 8, "job_name": "7"}),
        ({"parallelism": None, "experiments": []}, {}),
        ({"no_auth": True, "streaming": False}, {"no_auth": True}),
        ({"use_public_ips": False}, {"use_public_ips": False}),
        ({"no_use_public_ips": True}, {"use_public_ips": False}),
        ({"no_use_public_ips": False}, {}),
        ({"worker_machine_type": "n2"}, {"machine_type": "n2"}),
        ({"experiments": "a,b"}, {"experiments": ["a", "b"]}),
        ({"experiments": ["a=1,2", "b"]}, {"experiments": ["a=1,2", "b"]}),
        ({"environment_options": ["process_command=/x"]}, {"environment_options": ["process_command=/x"]}),
        ({"environment_config": {"command": "/x"}}, {"environment_config": '{"command": "/x"}'}),
        ({"sdk_harness_log_level_overrides": {"a": "INFO"}}, {"sdk_harness_log_level_overrides": {"a": "INFO"}}),
    ],
)
def test_values_get_the_types_of_their_options(options: dict[str, Any], found: dict[str, Any]) -> None:
    assert {k: v for k, v in given(options).items() if k != "flink_version"} == found


def test_the_command_line_wins_by_any_name() -> None:
    """Under its other name it did not."""
    assert given({"machine_type": "n2", "parallelism": 2}, "--worker_machine_type=c3", "--parallelism=3") == {
        "machine_type": "c3",
        "parallelism": 3,
    }


def test_defaults_stay_beams() -> None:
    assert given({}) == {}
    assert (
        pipeline_options("FlinkRunner", {}, []).get_all_options()
        == PipelineOptions([], runner="FlinkRunner").get_all_options()
    )
