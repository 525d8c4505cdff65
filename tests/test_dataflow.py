"""Dataflow to its door: the whole submission, but to a server of the test's. There is no account to go further."""

import json
import runpy
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import setuptools
import stores
import yaml
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from corpora import options, write_corpus

from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.config import ScanConfig, load_config
from rtdscan.pipeline.launchers.dataflow import check_dataflow
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.storage import locks, s3

CONFIGS = Path(__file__).parent.parent / "configs"
INPUT, OUTPUT = f"s3://{stores.BUCKET}/in", f"s3://{stores.BUCKET}/out"
IMAGE = "europe-west4-docker.pkg.dev/my-project/images/rtdscan:0.1.0"

needs_gcp = pytest.mark.skipif(find_spec("apitools") is None, reason="needs apache-beam[gcp]: pip install '.[gcp]'")


class _Dataflow(BaseHTTPRequestHandler):
    """As much of Dataflow's REST interface as a submission calls."""

    jobs: list[dict[str, Any]]

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.jobs.append(job)
        self._answer({"id": "2026-11-21_1", "name": job["name"], "projectId": "my-project", "location": "europe-west4"})

    def do_GET(self) -> None:
        self._answer({"jobs": []})

    def _answer(self, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def dataflow() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(URL, the jobs that were created)."""
    jobs: list[dict[str, Any]] = []
    server = ThreadingHTTPServer(("localhost", 0), type("Handler", (_Dataflow,), {"jobs": jobs}))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://localhost:{server.server_address[1]}", jobs  # by this name Beam takes folders for buckets
    server.shutdown()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[stores.Store]:
    """A corpus in an object store; gs:// would be another client of Beam's, and no other code of ours."""
    with stores.serving() as store:
        s3._client.cache_clear()
        for name, value in {
            "AWS_ENDPOINT_URL": store.url,
            "AWS_ACCESS_KEY_ID": "root",
            "AWS_SECRET_ACCESS_KEY": "root",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(locks, "SETTLE_SECONDS", 0.0)
        store.upload(write_corpus(tmp_path / "corpus"), "in")
        yield store


def beam_arguments(tmp_path: Path, url: str) -> list[str]:
    """What replaces the account and its buckets."""
    places = {name: tmp_path / name for name in ("temp_location", "staging_location")}
    for place in places.values():
        place.mkdir()
    return [
        f"--dataflow_endpoint={url}",
        "--no_auth",
        *(f"--{name}={place}" for name, place in places.items()),
        f"--dataflow_job_file={tmp_path / 'job.json'}",
    ]


def graph(tmp_path: Path) -> beam_runner_api_pb2.Pipeline:
    (staged,) = (tmp_path / "staging_location").rglob("*pipeline.pb")
    data = staged.read_bytes()
    assert len(data) < 10e6  # Dataflow takes no larger graph
    return beam_runner_api_pb2.Pipeline.FromString(data)


@pytest.mark.slow
@needs_gcp
def test_a_job_is_submitted_complete(
    tmp_path: Path,
    tiny_bundle: Path,
    store: stores.Store,
    dataflow: tuple[str, list[dict[str, Any]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, jobs = dataflow
    template = runpy.run_path(str(CONFIGS / "dataflow" / "template.py"))
    sets = [word for word in options(tiny_bundle)[1::2] if not word.startswith("report")]
    sets.append("beam.dataflow_service_options=[worker_accelerator=type:nvidia-l4;count:1]")
    parameters = [
        f"--input={INPUT}",
        f"--output={OUTPUT}",
        f"--config={CONFIGS / 'dataflow.yaml'}",
        "--runner=DataflowRunner",
        "--machine_type=c3-standard-8",
        *beam_arguments(tmp_path, url),
    ]
    arguments = template["scan_arguments"](parameters)
    for one in sets:
        arguments[arguments.index("--") : arguments.index("--")] = ["--set", one]
    assert main(arguments) == 0, capsys.readouterr().err
    assert "DataflowRunner job 2026-11-21_1 is submitted" in capsys.readouterr().err
    (job,) = jobs
    assert len(json.dumps(job)) < 20e6
    environment = job["environment"]
    (pool,) = environment["workerPools"]
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [IMAGE]
    assert pool["machineType"] == "c3-standard-8"  # given beside the config, so it wins over it
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 20
    assert pool["diskSizeGb"] == 30
    told = environment["sdkPipelineOptions"]["options"]
    assert told["number_of_worker_harness_threads"] == 1
    assert environment["serviceOptions"] == ["worker_accelerator=type:nvidia-l4;count:1"]
    # The graph: no step has hints of its own, and what is shuffled is descriptions of units before, counts after.
    pipeline = graph(tmp_path)
    assert not any(one.resource_hints for one in pipeline.components.environments.values())
    shuffles = [
        transform.unique_name
        for transform in pipeline.components.transforms.values()
        if transform.spec.urn in ("beam:transform:group_by_key:v1", "beam:transform:reshuffle:v1")
    ]
    assert any("Spread" in name for name in shuffles)
    assert all(name.startswith(("Spread", "Results/")) for name in shuffles), shuffles
    assert not store.objects("out/attributes")
    assert "out/run.json" not in store.objects()


@pytest.mark.slow
@needs_gcp
def test_a_template_that_was_written_is_no_failure(
    tmp_path: Path,
    tiny_bundle: Path,
    store: stores.Store,
    dataflow: tuple[str, list[dict[str, Any]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The Flex Template's launcher asks for a file instead of a job; the job that is not there was asked for its id."""
    url, jobs = dataflow
    arguments = ["scan", INPUT, OUTPUT, *options(tiny_bundle), "--config", str(CONFIGS / "dataflow.yaml")]
    beam = [word for word in beam_arguments(tmp_path, url) if not word.startswith("--dataflow_job_file")]  # one of both
    arguments += ["--set", "wait=false", "--", f"--template_location={tmp_path / 'template'}", *beam]
    assert main(arguments) == 0, capsys.readouterr().err
    assert "the template of a DataflowRunner job is submitted" in capsys.readouterr().err
    assert json.loads((tmp_path / "template").read_text())["environment"]
    assert jobs == []


@pytest.mark.slow
@needs_gcp
def test_paths_of_this_machine_are_refused(tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    args = ["scan", str(corpus), str(tmp_path / "out"), *options(tiny_bundle, "runner=DataflowRunner")]
    assert main(args) == 2
    assert "lies on this machine, where no worker sees it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("left_out", "told"),
    [
        (["project"], "project is not set"),
        (["region"], "region is not set"),
        (["temp_location", "staging_location"], "temp_location is not set"),
        (["sdk_container_image"], "workers would run in Beam's own image"),
    ],
)
def test_what_a_job_can_not_do_without(left_out: list[str], told: str) -> None:
    """Without an image the job was submitted, and its workers could not import this package."""
    beam = load_config(ScanConfig, files=[CONFIGS / "dataflow.yaml"]).beam
    paths = ["gs://bucket/in", "gs://bucket/out"]
    check_dataflow(PipelineOptions([], **beam), paths=paths, default_region=lambda: None)
    flags = PipelineOptions([], **{name: value for name, value in beam.items() if name not in left_out})
    with pytest.raises(UserError, match=f"^DataflowRunner: {told}"):
        check_dataflow(flags, paths=paths, default_region=lambda: None)


@pytest.mark.parametrize("instead", [{"setup_file": "./setup.py"}, {"extra_packages": ["x.whl"]}])
def test_an_image_is_not_the_only_way(instead: dict[str, Any]) -> None:
    beam = load_config(ScanConfig, files=[CONFIGS / "dataflow.yaml"]).beam
    flags = PipelineOptions([], **{**beam, "region": None, "sdk_container_image": None, **instead})
    check_dataflow(flags, paths=["gs://bucket/in"], default_region=lambda: "europe-west4")


def test_the_template_names_what_its_program_takes() -> None:
    template = runpy.run_path(str(CONFIGS / "dataflow" / "template.py"))
    parameters = json.loads((CONFIGS / "dataflow" / "metadata.json").read_text())["parameters"]
    given = [f"--{one['name']}=x" for one in parameters] + ["--project=p"]
    arguments = template["scan_arguments"](given)
    assert arguments == ["scan", "x", "x", "--config", "x", "--set", "x", "--set", "wait=false", "--", "--project=p"]
    assert [one["name"] for one in parameters if not one.get("isOptional")] == ["input", "output"]


def test_the_image_installs_what_a_worker_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the package requires is in the requirements, but for one engine's packages and the report's."""
    required = {
        line.partition(">")[0].partition("=")[0].partition("[")[0].strip()
        for line in (CONFIGS / "worker-requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert not {"torch", "transformers"} & required
    asked: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **given: asked.update(given))
    monkeypatch.chdir(CONFIGS.parent)
    runpy.run_path("setup.py")
    names = {spec.partition(">")[0].partition("[")[0] for spec in asked["install_requires"]}
    left_out = {"torch", "transformers", "matplotlib", "jinja2"}
    assert left_out <= names
    assert names - left_out <= required
    dockerfile = (CONFIGS / "Dockerfile").read_text()
    for line in dockerfile.splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (CONFIGS.parent / source).exists(), source
    assert 'ENTRYPOINT ["/opt/apache/beam/boot"]' in dockerfile


def test_the_config_is_a_config() -> None:
    config = load_config(ScanConfig, files=[CONFIGS / "dataflow.yaml"])
    assert config.runner == "DataflowRunner"
    assert config.beam["sdk_container_image"] == IMAGE
    assert yaml.safe_load((CONFIGS / "dataflow.yaml").read_text())["report"] == {"enabled": False}
