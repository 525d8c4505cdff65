"""The scan through Beam's job service and a worker pool in an environment of its own, as Flink and Dataflow work."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from corpora import options, shards, write_corpus
from tiny import make_tiny_bundle

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.services import Services, build_wheel, make_environment, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """Python of an environment that has this package from a wheel."""
    return make_environment(tmp_path_factory.mktemp("worker") / "venv", wheel)


@pytest.fixture
def services(tmp_path: Path, worker: Path) -> Iterator[Services]:
    with serving(tmp_path / "services", worker) as running:
        yield running


def scan(corpus: Path, output: Path, bundle: Path, *sets: str, beam: tuple[str, ...] = ()) -> tuple[int, str]:
    """Scan in a process of its own; returns exit status and stderr."""
    command = [sys.executable, "-m", "rtdscan.pipeline", "scan", str(corpus), str(output), *options(bundle, *sets)]
    done = subprocess.run([*command, *(["--", *beam] if beam else [])], capture_output=True, text=True, timeout=150)
    return done.returncode, done.stderr


def test_a_job_service_with_workers_elsewhere_writes_the_same_bytes(
    tmp_path: Path, tiny_bundle: Path, services: Services, worker: Path, wheel: Path
) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    sets = ("output.words=true", "output.columns=[source]", "tally.by=[source]")
    assert scan(corpus, tmp_path / "local", tiny_bundle, *sets)[0] == 0
    beam = (*services.arguments, f"--extra_package={wheel}")
    status, said = scan(corpus, tmp_path / "out", tiny_bundle, *sets, "runner=PortableRunner", beam=beam)
    assert status == 0, said
    assert shards(tmp_path / "out") == shards(tmp_path / "local")
    assert len(shards(tmp_path / "out")) >= 8
    runs = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("out", "local")]
    assert runs[0]["tally"] == runs[1]["tally"]
    # The work was done in the other environment, by the package that is installed there.
    worked = {int(name.rpartition(":")[2]) for name in workers(tmp_path / "out")}
    prefix = worker.parent.parent
    assert worked
    for pid in worked:
        where, origin = services.processes()[pid]
        assert Path(where) == prefix != Path(sys.prefix)
        assert Path(origin).is_relative_to(prefix)
    staged = [path.name for path in services.staging.rglob("*.whl")]
    assert [name.partition("-")[2] for name in staged] == [wheel.name]
    # The next scan has nothing to hand over.
    assert scan(corpus, tmp_path / "out", tiny_bundle, *sets, "runner=PortableRunner", beam=beam)[0] == 0
    assert set(workers(tmp_path / "out")) == {None}


def workers(output: Path) -> list[str]:
    return pq.read_table(output / "manifest.parquet")["worker"].to_pylist()


def test_a_worker_without_the_model_says_so_in_one_line(tmp_path: Path, services: Services) -> None:
    """The launcher resolved a model; by the time a worker loads it, it is another one."""
    corpus, bundle = write_corpus(tmp_path / "corpus"), make_tiny_bundle(tmp_path / "bundle")
    swap = tmp_path / "hook"
    swap.mkdir()
    body = f"""
        import rtdscan.pipeline.launchers.beam as launcher
        from pathlib import Path
        from tiny import make_tiny_bundle
        build = launcher.build
        def swapped(*args, **more):
            make_tiny_bundle(Path({str(bundle)!r}), seed=1)
            return build(*args, **more)
        launcher.build = swapped
        from rtdscan.pipeline.__main__ import program
        program()
    """
    program = swap / "scan.py"
    program.write_text(f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + _dedent(body))
    sets = options(bundle, "runner=PortableRunner")
    command = [sys.executable, str(program), "scan", str(corpus), str(tmp_path / "out"), *sets]
    done = subprocess.run([*command, "--", *services.arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    told = next(line for line in reversed(done.stderr.splitlines()) if line.startswith("rtdscan: "))
    assert told.startswith("rtdscan: PortableRunner: the pipeline failed: model ")
    assert told.endswith("give every worker the same model")
    assert not (tmp_path / "out" / "run.json").exists()


def _dedent(body: str) -> str:
    return "\n".join(line.removeprefix("        ") for line in body.splitlines())


def test_a_pool_that_is_not_there_ends_the_scan(tmp_path: Path, tiny_bundle: Path, services: Services) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    beam = (
        f"--job_endpoint={services.job_endpoint}",
        "--environment_type=EXTERNAL",
        "--environment_config=localhost:1",
    )
    status, said = scan(corpus, tmp_path / "out", tiny_bundle, "runner=PortableRunner", beam=beam)
    assert status == 1
    assert "Traceback" not in said
    assert "rtdscan: PortableRunner: the pipeline failed: failed to connect" in said
