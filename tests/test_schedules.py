"""The examples of configs/schedules/ do what they say: cron's line runs, Airflow loads its DAG, Kubernetes' schema
accepts the manifest.
"""

import ast
import json
import os
import re
import subprocess
import sys
from itertools import accumulate
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from corpora import options, shards, write_corpus

from rtdscan.pipeline.__main__ import PROGRAMS
from rtdscan.pipeline.config import ScanConfig, load_config
from rtdscan.transforms import storage
from rtdscan.transforms.storage.locks import LEASE_SECONDS

SCHEDULES = Path(__file__).parent.parent / "configs" / "schedules"


def cron_line() -> tuple[dict[str, str], str]:
    """The variables of the crontab, and the command of its one entry."""
    variables: dict[str, str] = {}
    commands = []
    for line in (SCHEDULES / "crontab").read_text().splitlines():
        if found := re.fullmatch(r"(\w+)=(.*)", line):
            variables[found[1]] = found[2]
        elif line and not line.startswith("#"):
            fields = line.split(maxsplit=5)
            assert all(re.fullmatch(r"[\d*/,-]+", field) for field in fields[:5]), line
            commands.append(fields[5])
    (command,) = commands
    assert "%" not in command  # cron would make a line break of it
    return variables, command


@pytest.mark.slow
def test_the_line_of_cron_scans_and_a_second_one_leaves(tmp_path: Path, tiny_bundle: Path) -> None:
    variables, command = cron_line()
    sets = options(tiny_bundle)[1::2]
    config = tmp_path / "config.yaml"
    values: dict[str, object] = {}
    for one in sets:
        key, _, value = one.partition("=")
        *path, last = key.split(".")
        section = values
        for part in path:
            section = section.setdefault(part, {})  # type: ignore[assignment]
        section[last] = yaml.safe_load(value)
    config.write_text(yaml.safe_dump(values))
    program = tmp_path / "rtdscan"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m rtdscan.pipeline "$@"\n')
    program.chmod(0o755)
    places = {
        "RTDSCAN": str(program),
        "CORPUS": str(write_corpus(tmp_path / "corpus")),
        "QUALITY": str(tmp_path / "quality"),
        "CONFIG": str(config),
        "LOG": str(tmp_path / "log"),
    }
    assert places.keys() <= variables.keys()

    def run() -> str:
        """What cron would mail."""
        done = subprocess.run(
            [variables["SHELL"], "-c", command],
            env={**os.environ, **places},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0
        return done.stdout + done.stderr

    output = tmp_path / "quality"
    with storage.lock(str(output)):  # another night's scan is at it
        assert run() == ""
    assert f"rtdscan: {output} is busy: process {os.getpid()} on " in (tmp_path / "log").read_text()
    assert not (output / "attributes").exists()
    assert run() == ""
    assert len(shards(output)) >= 8
    assert json.loads((tmp_path / "log").read_text().splitlines()[-1])["metrics"]["rows"] == 82
    config.write_text("no_such_key: 1\n")
    assert run() == f"rtdscan: exit status 2, see {tmp_path / 'log'}\n"


def test_the_manifest_of_kubernetes() -> None:
    documents = list(yaml.safe_load_all((SCHEDULES / "kubernetes.yaml").read_text()))
    assert [document["kind"] for document in documents] == ["ConfigMap", "CronJob"]
    for document in documents:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    wrong = yaml.safe_load(yaml.safe_dump(documents[1]))
    wrong["spec"]["jobTemplate"]["spec"]["backoffLimit"] = "many"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_what_the_pod_of_kubernetes_runs(tmp_path: Path) -> None:
    config_map, job = yaml.safe_load_all((SCHEDULES / "kubernetes.yaml").read_text())
    ((name, text),) = config_map["data"].items()
    (tmp_path / name).write_text(text)
    config = load_config(ScanConfig, files=[tmp_path / name])
    assert "auto" not in (config.engine, config.precision, config.workers)
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    program, verb, source, target, *rest = container["command"]
    assert (program, verb in PROGRAMS) == ("rtdscan", True)
    assert not storage.is_local(source)
    assert not storage.is_local(target)
    assert rest == ["--config", f"{container['volumeMounts'][0]['mountPath']}/{name}", "--json"]
    rules = job["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onExitCodes"]["containerName"] == container["name"]


def test_a_killed_pod_does_not_fail_the_job_of_kubernetes() -> None:
    """Its lease lives on, the next pods exit with 4, and that failed the whole job at once."""
    _, job = yaml.safe_load_all((SCHEDULES / "kubernetes.yaml").read_text())
    spec = job["spec"]["jobTemplate"]["spec"]
    (fails,) = [rule for rule in spec["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    assert fails["onExitCodes"]["values"] == [2, 3]
    # Kubernetes waits 10 s before the first retry, then twice as long each time, six minutes at most.
    waited = list(accumulate(min(10 * 2**retry, 360) for retry in range(spec["backoffLimit"])))
    goes_on = next(retry for retry, seconds in enumerate(waited, 1) if seconds > LEASE_SECONDS)
    assert (goes_on, waited[goes_on - 1]) == (4, 150)
    assert spec["backoffLimit"] >= goes_on + 2
    ray = yaml.safe_load((SCHEDULES.parent / "kuberay.yaml").read_text())
    assert ray["spec"]["backoffLimit"] * 30 > LEASE_SECONDS  # a try takes half a minute or more


def test_the_dag_of_airflow_is_python() -> None:
    tree = ast.parse((SCHEDULES / "airflow_dag.py").read_text())
    assert any(isinstance(node, ast.With) for node in tree.body)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_airflow_loads_the_dag(tmp_path: Path) -> None:
    """Airflow in an environment of its own, for it wants other versions of much."""
    python = Path(os.environ.get("RTDSCAN_AIRFLOW_PYTHON", tmp_path / "venv" / "bin" / "python"))
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
        install = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-compile",  # most of it is never imported
            "apache-airflow-core>=3",
            "apache-airflow-providers-standard",
        ]
        try:
            done = subprocess.run(install, capture_output=True, text=True, timeout=300, env=plain)
        except subprocess.TimeoutExpired:
            pytest.skip("Airflow could not be installed within five minutes")
        if done.returncode:
            pytest.skip(f"Airflow can't be installed here: {done.stderr.strip().splitlines()[-1]}")
    program = f"""
import json, runpy
from airflow.providers.standard.operators.bash import BashOperator
dag = runpy.run_path({str(SCHEDULES / "airflow_dag.py")!r})["dag"]
dag.validate() if hasattr(dag, "validate") else None
scan = dag.get_task("scan")
print(json.dumps([dag.dag_id, str(dag.schedule), dag.max_active_runs, sorted(dag.task_ids),
                  sorted(scan.downstream_task_ids), scan.skip_on_exit_code, scan.retries, scan.bash_command]))
"""
    environment = {**plain, "AIRFLOW_HOME": str(tmp_path / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    name, schedule, runs, tasks, after, skipped, retries, command = json.loads(done.stdout.splitlines()[-1])
    assert (name, schedule, runs, tasks, after) == (
        "rtdscan_nightly",
        "15 2 * * *",
        1,
        ["publish", "scan"],
        ["publish"],
    )
    assert (skipped, retries) == ([99], 2)
    # What the operator's shell makes of each exit status of a scan.
    for status, expected in ((0, 0), (1, 1), (2, 2), (3, 99), (4, 99)):
        stub = f"rtdscan() {{ return {status}; }}\n{command}"
        assert subprocess.run(["bash", "-c", stub]).returncode == expected
