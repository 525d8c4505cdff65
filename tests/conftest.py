"""Fixtures of all tests. The environment is set before anything imports torch, tokenizers or the hub."""

import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RTDSCAN_CACHE"] = tempfile.mkdtemp(prefix="rtdscan-tests-")

from tiny import make_tiny_bundle

# How long an example takes says more about the machine than about the code; pytest's own time-out ends what hangs.
hypothesis.settings.register_profile("rtdscan", deadline=None)
hypothesis.settings.load_profile("rtdscan")


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["RTDSCAN_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a tiny random discriminator, window 32. Read it, don't change it."""
    return make_tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans of this test run the graph in the test's process instead of in children."""
    from corpora import run_here

    monkeypatch.setattr("rtdscan.pipeline.launchers.local.run_local", run_here)
