"""What is wrong with a job for a Beam runner is told before anything is handed over, in one line."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from corpora import options, shards, write_corpus

from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.launchers import Submitted
from rtdscan.pipeline.launchers import beam as launcher
from rtdscan.pipeline.launchers.beam import cause


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus")


@pytest.mark.parametrize(
    ("sets", "beam", "status", "told"),
    [
        (["runner=FooRunner"], [], 2, "runner FooRunner: Unexpected pipeline runner: FooRunner"),
        (["runner=a.b.FooRunner"], [], 2, "runner a.b.FooRunner: No module named 'a'"),
        (["runner=PortableRunner"], [], 2, "PortableRunner: job_endpoint is not set; expected HOST:PORT"),
        (["runner=PortableRunner"], ["--job_endpoint=nowhere"], 2, "at job_endpoint nowhere: expected HOST:PORT"),
        (["runner=PortableRunner"], ["--job_endpoint=localhost:1"], 1, "no job service answers at job_endpoint"),
        (
            ["runner=PortableRunner"],
            ["--job_endpoint=embed", "--environment_type=EXTERN"],
            2,
            "environment_type is EXTERN: Unknown environment type: EXTERN; expected DOCKER, PROCESS, EXTERNAL",
        ),
        (["runner=FlinkRunner", "engine=auto"], [], 2, "FlinkRunner: engine is auto, which is decided by this machine"),
        (["runner=FlinkRunner", "precision=auto"], [], 2, "FlinkRunner: precision is auto"),
    ],
)
@pytest.mark.timeout(60)
def test_what_is_told_before_submission(
    corpus: Path,
    tmp_path: Path,
    tiny_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    sets: list[str],
    beam: list[str],
    status: int,
    told: str,
) -> None:
    args = ["scan", str(corpus), str(tmp_path / "out"), *options(tiny_bundle, *sets)]
    assert main([*args, "--", *beam]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "out").exists()


def test_a_job_that_nobody_waits_for_is_finished_by_the_same_command(
    corpus: Path, tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["scan", str(corpus), str(tmp_path / "out"), "--json", *options(tiny_bundle, "runner=FnApiRunner")]
    assert main([*args, "--set", "wait=false"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"submitted": "FnApiRunner job"}
    assert "once it has ended, run the same command again to finish" in err
    assert len(shards(tmp_path / "out")) >= 8  # this runner is done when it returns
    assert not (tmp_path / "out" / "run.json").exists()
    assert main([*args, "--set", "wait=false"]) == 0
    assert set(json.loads(capsys.readouterr().out)["units"]) == {"current"}
    assert (tmp_path / "out" / "run.json").exists()
    assert not (tmp_path / "out" / ".attempts").exists()


def test_whoever_stops_waiting_stops_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    class Running:
        cancelled = 0

        def wait_until_finish(self) -> None:
            raise KeyboardInterrupt

        def cancel(self) -> None:
            self.cancelled += 1

    running = Running()
    with pytest.raises(KeyboardInterrupt):
        launcher._wait(running)
    assert running.cancelled == 1
    assert "cancelling the job" in capsys.readouterr().err


class _Unavailable(grpc.RpcError):
    """As gRPC tells it: what happened is in the text."""

    def __str__(self) -> str:
        return '<_InactiveRpcError\n\tstatus = StatusCode.UNAVAILABLE\n\tdetails = "failed to connect"\n>'


@pytest.mark.parametrize(
    ("error", "told"),
    [(_Unavailable(), "failed to connect"), (NotImplementedError(), "NotImplementedError"), (OSError("gone"), "gone")],
)
def test_ctrl_c_ends_a_scan_whose_job_server_is_gone(
    error: Exception, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """gRPC's error took the place of the interrupt, so the end was a failed pipeline."""

    class Running:
        def wait_until_finish(self) -> None:
            raise KeyboardInterrupt

        def cancel(self) -> None:
            raise error

    with pytest.raises(KeyboardInterrupt):
        launcher._wait(Running())
    assert f"the job could not be cancelled, it may go on: {told}\n" in capsys.readouterr().err


@pytest.mark.parametrize("wait", [True, False])
def test_a_template_has_no_job_to_ask_or_to_wait_for(monkeypatch: pytest.MonkeyPatch, wait: bool) -> None:
    """As Dataflow's runner answers to --template_location; `job_id()` failed, and so did the Flex Template."""

    class Template:
        has_job = False

        def job_id(self) -> str:
            raise AttributeError("'NoneType' object has no attribute 'id'")

    monkeypatch.setattr("apache_beam.Pipeline.run", lambda *_, **__: Template())
    monkeypatch.setattr(launcher, "build", lambda *_, **__: None)
    job = SimpleNamespace(output="out", run="r")
    with pytest.raises(Submitted, match=r"^the template of a DirectRunner job$"):
        launcher.run_beam([], job, runner="DirectRunner", options={}, arguments=["--template_location=t"], wait=wait)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "Error processing instruction\nTraceback (most recent call last):\n  File x\n"
            "rtdscan.transforms.errors.EngineError: no openvino here; install it [while running 'Scan/Read']\n\n",
            "no openvino here; install it",
        ),
        ('<_InactiveRpcError\n\tdetails = "failed to connect"\n\tdebug = "x"\n>', "failed to connect"),
        ("Traceback:\n  x\nValueError: no such thing\nJava stack follows\n at x.y", "ValueError: no such thing"),
        ("a\nlast words", "last words"),
        ("", "RuntimeError"),
    ],
)
def test_of_a_remote_traceback_the_cause_is_told(text: str, line: str) -> None:
    assert cause(RuntimeError(text)) == line


def test_tracebacks_that_beam_logs_are_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with launcher._one_line():
        logging.log(logging.ERROR, "%s", "Traceback (most recent call last):\n  x")
        logging.log(logging.ERROR, "a plain error")
    assert [record.getMessage() for record in caplog.records] == ["a plain error"]
