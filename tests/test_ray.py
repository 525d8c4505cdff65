"""A scan on a real Ray cluster: the same bytes as on one machine, whatever dies; and a clear end where it can't be."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from corpora import attributes, options, run_here, shards

pytest.importorskip("ray")

from rays import SLOW, Rays, raylet_of
from test_kills import (
    DIE_OF_POISON,
    ENGINE,
    ENGINES,
    POISON,
    Case,
    check_finished,
    check_unfinished,
    make_case,
    paths_of,
    poisoned,
    until,
)

from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.config import ScanConfig, load_config
from rtdscan.pipeline.launchers import ray as launcher
from rtdscan.pipeline.launchers.ray_node import run_on_node
from rtdscan.transforms.bundle import load_bundle
from rtdscan.transforms.errors import UserError

pytestmark = pytest.mark.timeout(300)

HELD_UP = ENGINES[ENGINE] + SLOW.format(seconds=0.05)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Case:
    return make_case(tmp_path_factory.mktemp("case"), tiny_bundle, rows=300, engine=ENGINE)


@pytest.fixture(scope="module")
def rays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rays]:
    """A head without CPUs and two nodes of one CPU, slow enough that both have their share."""
    rays = Rays(tmp_path_factory.mktemp("rays"))
    try:
        for _ in range(2):
            rays.add_node(rays.tell(), HELD_UP)
        yield rays
    finally:
        rays.close()


def scan_in(case: Case, output: Path, *sets: str) -> int:
    return main(["scan", str(case.corpus), str(output), *options(case.bundle, f"engine={case.engine}", *sets)])


@pytest.mark.slow
def test_the_bytes_are_those_of_one_machine_and_both_nodes_work(
    case: Case, rays: Rays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    corpus, model = os.path.relpath(case.corpus), os.path.relpath(case.bundle)
    # Paths of the launcher's directory: workers run in others.
    assert main(["scan", corpus, "out", *options(Path(model), f"engine={case.engine}", *rays.sets())]) == 0
    check_finished(tmp_path / "out", case.expected)
    manifest = pq.read_table(tmp_path / "out" / "manifest.parquet")
    assert set(manifest["status"].to_pylist()) == {"scored"}
    workers = set(manifest["worker"].to_pylist())
    pids = [pid for pid, _ in rays.loads()]
    assert {parent for _, parent in rays.loads()} == {raylet_of(node) for node in rays.nodes}
    assert {worker.rpartition(":")[2] for worker in workers} <= {str(pid) for pid in pids}
    assert len(pids) == len(set(pids)) == 2, "a model is loaded once a process"
    assert json.loads((tmp_path / "out" / "run.json").read_text())["summary"]["workers"] == 2
    said = capfd.readouterr()
    assert "2 workers" in said.out
    assert "ray" not in said.err.lower()
    nowhere = options(Path(model), f"engine={case.engine}", "runner=ray", "ray.address=127.0.0.1:1")
    assert main(["scan", corpus, "out", *nowhere]) == 0, "nothing to do needs no cluster"


LOADED = """
    import sys
    from rtdscan.transforms import task
    run = task.run_task
    def told(*args):
        done = run(*args)
        with open({log!r}, "w") as log:
            log.write(" ".join(name for name in ("openvino", "torch", "transformers") if sys.modules.get(name)))
        return done
    task.run_task = told
"""


@pytest.mark.slow
def test_a_worker_with_openvino_loads_no_torch(tmp_path: Path, case: Case) -> None:
    alone, log = Rays(tmp_path), tmp_path / "loaded"
    try:
        alone.add_node(LOADED.format(log=str(log)))
        sets = alone.sets("engine=openvino", "precision=float32")
        assert scan_in(case, tmp_path / "out", *sets) == 0
    finally:
        alone.close()
    assert log.read_text() == "openvino"


# Deaths


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_workers_and_nodes_that_are_killed_are_replaced(rays: Rays, tiny_bundle: Path, tmp_path: Path) -> None:
    case = make_case(tmp_path / "case", tiny_bundle, rows=1200, engine=ENGINE)
    output, killed = tmp_path / "out", 0
    with case.scanning(output, *rays.sets()) as running:
        for kill in range(4):
            before, known = len(paths_of(output)), len(rays.loads())
            running.until_shards(before + 8)
            assert running.process.poll() is None, running.said.read_text()
            if kill % 2:
                rays.kill_node(rays.nodes[0])
                rays.add_node(rays.tell(), HELD_UP)
            else:
                nodes = [raylet_of(node) for node in rays.nodes]
                worker = next(pid for pid, parent in reversed(rays.loads()) if parent == nodes[kill // 2])
                os.kill(worker, signal.SIGKILL)
            killed += 1
            until(lambda known=known: len(rays.loads()) > known)  # another one goes on
        assert running.wait(240) == 0, running.said.read_text()
    assert killed == 4
    check_finished(output, case.expected)
    assert len(rays.loads()) == len(set(rays.loads()))


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False], ids=["launcher and driver", "launcher alone"])
def test_tasks_of_a_launcher_that_was_killed_are_gone(case: Case, rays: Rays, tmp_path: Path, whole: bool) -> None:
    output, known = tmp_path / "out", len(rays.loads())
    with case.scanning(output, *rays.sets()) as running:
        running.until_shards(10)
        workers = [pid for pid, _ in rays.loads()[known:]]
        if whole:
            os.killpg(running.process.pid, signal.SIGKILL)
        else:
            running.process.kill()
        assert running.wait(20) == -signal.SIGKILL
    until(lambda: not any(map(runs, workers)), seconds=20)
    check_unfinished(output)
    done = len(paths_of(output))
    assert 10 <= done < len(paths_of(case.expected))
    time.sleep(1)
    assert len(paths_of(output)) == done
    assert scan_in(case, output, *rays.sets()) == 0
    assert json.loads((output / "run.json").read_text())["summary"]["units"]["current"] == done
    check_finished(output, case.expected)


@pytest.mark.slow
def test_a_document_that_kills_its_workers_is_marked_and_no_other(
    rays: Rays, tiny_bundle: Path, tmp_path: Path
) -> None:
    corpus, output, expected = tmp_path / "corpus", tmp_path / "out", tmp_path / "expected"
    corpus.mkdir()
    rows = poisoned(0, 80, at={2: f"The {POISON} is full.", 15: f"And so. {'word and ' * 50}{POISON}."})
    pq.write_table(rows, corpus / "a.parquet", row_group_size=20)
    case = Case(corpus, expected, tiny_bundle)
    sets = ["unit.text_mb=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtdscan.pipeline.launchers.local.run_local", run_here)
        assert case.scan_here(expected, *sets) == {"scored": 4}
    node = rays.add_node(ENGINES["torch"] + DIE_OF_POISON)
    others = [other for other in rays.nodes if other is not node]
    for other in others:
        rays.kill_node(other)
    try:
        assert scan_in(case, output, *rays.sets(*sets)) == 0
    finally:
        for _ in others:
            rays.add_node(rays.tell(), HELD_UP)
        rays.kill_node(node)
    found, wanted = attributes(output), attributes(expected)
    failed = pc.equal(found["status"], "failed")
    assert found.filter(failed)["id"].to_pylist() == [2, 15]
    assert set(found.filter(failed)["reason"].to_pylist()) == {"it killed its worker"}
    assert found.filter(pc.invert(failed)).equals(wanted.filter(pc.invert(failed)))
    assert not (output / ".attempts").exists()


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# Models


@pytest.mark.slow
def test_a_model_from_an_object_store_is_copied_to_a_node_once(
    case: Case, rays: Rays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boto3, server = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    store = server.ThreadedMotoServer(port=0)
    store.start()
    try:
        host, port = store.get_host_and_port()
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        env = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
        env |= dict.fromkeys(names, "for-a-test")
        for name, value in {**env, "RTDSCAN_CACHE": str(tmp_path / "launcher")}.items():
            monkeypatch.setenv(name, value)
        bucket = boto3.resource("s3").create_bucket(Bucket="models")
        for file in case.bundle.iterdir():
            bucket.upload_file(str(file), f"tiny/1/{file.name}")
        hooks = (rays.tell(), HELD_UP)  # slow enough that both have their share
        nodes = [rays.add_node(*hooks, cpus=2, env={**env, "RTDSCAN_CACHE": str(tmp_path / n)}) for n in "ab"]
        known, raylets = len(rays.loads()), {raylet_of(node) for node in nodes}
        try:
            sets = rays.sets("model=s3://models/tiny/1", "threads=2")  # only these nodes have two CPUs
            assert scan_in(case, tmp_path / "out", *sets) == 0
        finally:
            for node in nodes:
                rays.kill_node(node)
    finally:
        store.stop()
    assert shards(tmp_path / "out") == shards(case.expected)
    assert {parent for _, parent in rays.loads()[known:]} == raylets
    copies = [sorted((tmp_path / place / "models").iterdir()) for place in ("launcher", "a", "b")]
    assert [[copy.name for copy in found] for found in copies] == [[copies[0][0].name]] * 3
    assert load_bundle(str(copies[1][0])).digest == load_bundle(str(case.bundle)).digest


@pytest.mark.slow
def test_a_model_that_only_the_launcher_has(
    case: Case, rays: Rays, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    shutil.copytree(case.bundle, model)
    prepare = launcher.joined

    def hide(*args: Any, **kwargs: Any) -> Any:
        model.rename(tmp_path / "hidden")  # a node has another disk
        return prepare(*args, **kwargs)

    monkeypatch.setattr(launcher, "joined", hide)
    assert scan_in(case, tmp_path / "out", *rays.sets(f"model={model}")) == 1
    said = capsys.readouterr().err
    assert "rtdscan: Ray node " in said
    assert f": model {model}: no such directory" in said
    assert said.count("\n") == 1


# Ends


@pytest.mark.slow
def test_nobody_there(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scan_in(case, tmp_path / "out", "runner=ray", "ray.address=127.0.0.1:1") == 1
    said = capsys.readouterr().err
    assert "rtdscan: can't join the Ray cluster at 127.0.0.1:1: Connection refused; ray.address is host:port" in said
    assert not (tmp_path / "out" / ".attempts").exists()


@pytest.mark.slow
def test_somebody_else_there(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "JOIN_SECONDS", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert scan_in(case, tmp_path / "out", "runner=ray", f"ray.address={address}") == 1
    assert f"rtdscan: no answer from Ray at {address} within 2 s; is that the port" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("wrong", "told"), [("threads=64", "64 CPUs"), ("ray.memory_per_task=900", "and 900 GB")])
def test_no_node_has_room(
    case: Case, rays: Rays, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str, told: str
) -> None:
    assert scan_in(case, tmp_path / "out", *rays.sets("ray.wait_seconds=0.5", wrong)) == 1
    said = capsys.readouterr().err
    assert f"rtdscan: no node of the Ray cluster at {rays.address} has room for a task" in said
    assert told in said
    assert ": 1 CPUs, 4.0 GB; " in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_a_node_without_the_package(case: Case, rays: Rays, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    node = rays.add_node(
        """
        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "rtdscan":
                    raise ModuleNotFoundError("No module named 'rtdscan'")
        sys.meta_path.insert(0, Missing())
        """
    )
    try:
        assert scan_in(case, tmp_path / "out", *rays.sets()) == 1
    finally:
        rays.kill_node(node)
    said = capsys.readouterr().err
    assert "rtdscan: Ray node " in said
    assert "No module named 'rtdscan'); install rtdscan 0." in said
    assert said.count("\n") == 1
    assert not paths_of(tmp_path / "out")


@pytest.mark.slow
def test_a_node_without_the_engine(case: Case, rays: Rays, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    node = rays.add_node(
        """
        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "openvino":
                    raise ModuleNotFoundError("No module named 'openvino'")
        sys.meta_path.insert(0, Missing())
        import importlib.util
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, package=None: None if name == "openvino" else find(name, package)
        """,
        cpus=2,
    )
    try:
        # Two threads: only this node has so many CPUs.
        assert scan_in(case, tmp_path / "out", *rays.sets("engine=openvino", "threads=2")) == 1
    finally:
        rays.kill_node(node)
    said = capsys.readouterr().err
    assert "rtdscan: Ray node " in said
    assert ": engine openvino: the package openvino is not installed" in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_nodes_whose_cpus_others_use(
    case: Case, rays: Rays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What is free is told late: a node that died a moment ago counts still.
    code = (
        "import pathlib, ray, time\n"
        f"ray.init(address={rays.address!r}, log_to_driver=False)\n"
        "@ray.remote(num_cpus=1)\ndef hold(): time.sleep(600)\n"
        f"held = [hold.options(runtime_env={{}}).remote() for _ in range({len(rays.nodes)})]\n"
        "while ray.available_resources().get('CPU', 0): time.sleep(0.1)\n"
        f"pathlib.Path({str(tmp_path / 'held')!r}).touch()\n"
        "time.sleep(600)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until((tmp_path / "held").exists)
        assert scan_in(case, tmp_path / "out", *rays.sets("ray.wait_seconds=2")) == 1
    finally:
        other.kill()
        other.wait()
    said = capsys.readouterr().err
    assert f"rtdscan: no task could begin within 2 s on the Ray cluster at {rays.address}, where 0 of " in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("version_", "mark", "told"),
    [
        ("0.0.9", "", "but this scan was started by 0.0.9; install the same version on every node"),
        (version("rtdscan"), "elsewhere/launcher", "does not see OUTPUT (no elsewhere/launcher); use a disk that all"),
    ],
)
def test_a_node_that_can_not_take_part_says_so(version_: str, mark: str, told: str) -> None:
    answer = run_on_node(version_, mark, None)
    assert told in answer["error"]
    assert answer["done"] == []


def test_a_package_that_is_not_there_is_told_by_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rtdscan.transforms.errors", None)
    assert "install rtdscan 9.9 on every node" in run_on_node("9.9", "", None)["error"]


def test_without_ray_the_scan_says_what_to_install(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert scan_in(case, tmp_path / "out", "runner=ray") == 2
    assert capsys.readouterr().err == (
        "rtdscan: runner ray: the package ray is not installed; pip install 'rtdscan[ray]'\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port", ""])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(UserError, match=r"ray\.address is .*; expected auto or host:port of the head"):
        load_config(ScanConfig, sets=["runner=ray", f"ray.address={json.dumps(address)}"])
