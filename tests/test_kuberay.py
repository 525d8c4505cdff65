"""The manifest for Kubernetes: accepted by the resource's schema, and its command is one that rtdscan understands."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from rtdscan.pipeline.config import ScanConfig, load_config

ROOT = Path(__file__).parent.parent


@pytest.fixture
def manifest() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "configs" / "kuberay.yaml").read_text(encoding="utf-8")))


def check(manifest: dict[str, Any]) -> None:
    schema = json.loads((Path(__file__).parent / "kuberay.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(manifest, schema)


def test_the_schema_accepts_it(manifest: dict[str, Any]) -> None:
    check(manifest)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "maxReplicas"), "many"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "containers"), []),
        (("spec", "entryPoint"), "rtdscan"),
        (("apiVersion",), "ray.io/v1alpha1"),
    ],
)
def test_the_schema_refuses_what_is_wrong(manifest: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    holder: Any = manifest
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        check(manifest)


def test_its_command_is_one_of_rtdscan(manifest: dict[str, Any]) -> None:
    words = shlex.split(manifest["spec"]["entrypoint"])
    assert words[:4] == ["rtdscan", "scan", "s3://lake/corpus", "s3://lake/scanned"]
    sets = [word for before, word in pairwise(words) if before == "--set"]
    config = load_config(ScanConfig, sets=sets)
    assert config.runner == "ray"
    assert config.ray.address == "auto"


def test_the_image_is_built_by_its_user_from_files_that_it_may_write_to() -> None:
    """Ray's images build as user ray; COPY gave root's files, in which pip could not build."""
    text = (ROOT / "configs" / "kuberay.yaml").read_text(encoding="utf-8")
    copies = [line for line in text.splitlines() if line.startswith("#   COPY ")]
    assert copies
    assert all(line.startswith("#   COPY --chown=ray:users ") for line in copies)


def test_a_worker_pod_has_room_for_a_task_on_each_cpu(manifest: dict[str, Any]) -> None:
    cluster = manifest["spec"]["rayClusterSpec"]
    limits = cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"]["limits"]
    memory = re.fullmatch(r"(\d+)Gi", limits["memory"])
    assert memory
    # Ray takes 30 % of a pod's memory for its object store and tells 70 % to tasks.
    assert int(memory[1]) * 0.7 >= int(limits["cpu"]) * ScanConfig().ray.memory_per_task
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
