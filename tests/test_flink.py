"""Flink to its door: each known trap is told before a job is submitted. A real cluster only where there is one."""

import copy
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from corpora import options, shards, write_corpus

from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.config import ScanConfig, load_config
from rtdscan.pipeline.launchers.beam_options import pipeline_options
from rtdscan.pipeline.launchers.flink import check_flink
from rtdscan.transforms.errors import RtdscanError, UserError

CONFIG = Path(__file__).parent.parent / "configs" / "flink.yaml"

JAR = "RTDSCAN_FLINK_JOB_SERVER_JAR"
"""Environment variable: Beam's job server for the Flink that tests/flink_cluster.py starts."""


class _Flink(BaseHTTPRequestHandler):
    """The two answers of Flink's REST interface that are looked at."""

    answers: dict[str, Any]

    def do_GET(self) -> None:
        body = json.dumps(self.answers[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def flink() -> Iterator[tuple[str, dict[str, Any]]]:
    """(URL, answers by path) of a cluster in order; a test changes the answers."""
    answers: dict[str, Any] = {
        "/overview": {"taskmanagers": 3, "slots-total": 12, "flink-version": "1.20.3"},
        "/jobmanager/config": [{"key": "restart-strategy.type", "value": "fixed-delay"}],
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Flink,), {"answers": answers}))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", answers
    server.shutdown()


@pytest.fixture
def beam(flink: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """The options of configs/flink.yaml with the address of the cluster."""
    config = load_config(ScanConfig, files=[CONFIG])
    assert config.runner == "FlinkRunner"
    assert "auto" not in (config.engine, config.precision)
    return {**copy.deepcopy(config.beam), "flink_master": flink[0]}


def check(beam: dict[str, Any], **changes: Any) -> None:
    kept = {name: value for name, value in {**beam, **changes}.items() if value is not None}
    check_flink(pipeline_options("FlinkRunner", kept, []))


def test_the_config_passes(beam: dict[str, Any], flink: tuple[str, dict[str, Any]]) -> None:
    check(beam)
    check(beam, environment_type="EXTERNAL", environment_config="localhost:50000")
    check(beam, environment_type="PROCESS", environment_config=None, environment_options=["process_command=/x/boot"])
    flink[1]["/overview"]["flink-version"] = "2.2.0"
    check(beam, flink_version="2.2")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"environment_type": None, "environment_config": None}, "workers would run in Beam's own Docker image"),
        ({"environment_config": None}, "workers would run in Beam's own Docker image"),
        ({"environment_type": "LOOPBACK", "environment_config": None}, "all workers would run on this machine"),
        ({"environment_type": "PROCESS", "environment_config": None}, "process_command=/path/of/boot"),
        ({"environment_type": "EXTERNAL", "environment_config": None}, "HOST:PORT of the worker pool on each host"),
        ({"parallelism": None}, "parallelism is not set, so Flink's default holds, one worker"),
        ({"parallelism": 13}, "has 12 task slots: the job would wait for more"),
        ({"flink_version": "2.2"}, "is Flink 1.20.3, but flink_version is 2.2"),
        ({"checkpointing_interval": 60000}, "set beam.shutdown_sources_after_idle_ms to 0"),
        ({"flink_master": "flink:8081", "artifacts_dir": None}, "artifacts_dir is not set, a folder of this machine"),
        (
            {"flink_master": "flink:8081", "artifacts_dir": "/tmp/x"},
            "artifacts_dir is /tmp/x, a folder of this machine",
        ),
    ],
)
def test_traps_in_the_options(beam: dict[str, Any], changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match="FlinkRunner: ") as caught:
        check(beam, **changes)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [[], [{"key": "restart-strategy.type", "value": "disable"}]])
def test_a_cluster_without_a_restart_strategy(
    beam: dict[str, Any], flink: tuple[str, dict[str, Any]], config: list[dict[str, str]]
) -> None:
    flink[1]["/jobmanager/config"] = config
    with pytest.raises(UserError, match="has no restart strategy, which is Flink's default"):
        check(beam)
    check(beam, number_of_execution_retries=3)
    flink[1]["/jobmanager/config"] = [{"key": "restart-strategy", "value": "exponential-delay"}]  # as Flink 1 called it
    check(beam)


def test_a_cluster_that_does_not_answer(beam: dict[str, Any]) -> None:
    with pytest.raises(RtdscanError, match=r"no Flink answers at http://localhost:1/overview .*Connection refused"):
        check(beam, flink_master="localhost:1")


def test_a_scan_tells_it_in_a_line(
    tmp_path: Path, tiny_bundle: Path, flink: tuple[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    flink[1]["/jobmanager/config"] = []
    args = ["scan", str(write_corpus(tmp_path / "corpus")), str(tmp_path / "out"), "--config", str(CONFIG)]
    assert main([*args, *options(tiny_bundle), "--set", f"beam.flink_master={flink[0]}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rtdscan: FlinkRunner: {flink[0]} has no restart strategy")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_scan_on_a_standalone_cluster(tmp_path: Path, tiny_bundle: Path) -> None:
    if JAR not in os.environ:
        pytest.skip(f"needs Beam's Flink job server, which no Python index has: set {JAR} to its jar")
    from flink_cluster import standalone

    corpus = write_corpus(tmp_path / "corpus")
    assert main(["scan", str(corpus), str(tmp_path / "local"), *options(tiny_bundle)]) == 0
    with standalone(tmp_path) as cluster:
        beam = [f"--flink_job_server_jar={os.environ[JAR]}", f"--artifacts_dir={tmp_path / 'artifacts'}"]
        args = ["scan", str(corpus), str(tmp_path / "out"), *options(tiny_bundle, "runner=FlinkRunner")]
        assert main([*args, "--", *cluster.arguments, *beam]) == 0
    assert shards(tmp_path / "out") == shards(tmp_path / "local")
