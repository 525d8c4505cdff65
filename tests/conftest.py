"""Fixtures of all tests. The environment is set before anything imports numpy, torch, tokenizers or the hub."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RTDSCAN_CACHE"] = tempfile.mkdtemp(prefix="rtdscan-tests-")

from apache_beam.transforms import userstate
from tiny import make_tiny_bundle

# How long an example takes says more about the machine than about the code; pytest's own time-out ends what hangs.
hypothesis.settings.register_profile("rtdscan", deadline=None, max_examples=30)
hypothesis.settings.register_profile("long", deadline=None, max_examples=1000)  # pytest --hypothesis-profile=long
hypothesis.settings.load_profile("rtdscan")


FIRST = (
    "test_readme.py",
    "test_ray.py",
    "test_kills.py",
    "test_benchmarks.py",
    "test_schedules.py",
    "test_errors.py",
    "test_review_browser.py",
    "test_pretrain_run.py",
    "test_clean.py",
    "test_scan.py",
)
"""Files that take long, slow tests included: begun first, so that the processes of `pytest -n` end together."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the files for `-n`; within a file, and without `-n`, nothing changes."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["RTDSCAN_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """No test of this process can tell whether a file survives a power cut; asking for it is a sixth of a scan."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_look_at_a_dofn() -> Iterator[None]:
    """Beam asks some fifty times a pipeline what state its DoFns declare, which is a quarter of a small scan's time."""
    known: dict[type, object] = {}

    def get_dofn_specs(dofn: object) -> object:
        if type(dofn) not in known:
            known[type(dofn)] = find(dofn)
        return known[type(dofn)]

    find = userstate.get_dofn_specs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(userstate, "get_dofn_specs", get_dofn_specs)
        yield


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a tiny random discriminator, window 32. Read it, don't change it."""
    return make_tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans of this test run the graph in the test's process instead of in children."""
    from corpora import run_here

    monkeypatch.setattr("rtdscan.pipeline.launchers.local.run_local", run_here)
