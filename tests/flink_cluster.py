"""A standalone Flink cluster from the Python index: a JobManager, two TaskManagers, a worker pool. Needs Java 17.

The index has Flink itself (`apache-flink-libraries` its jars, `apache-flink` its scripts), but not Beam's job server.
"""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.services import build_wheel, make_environment, serving

VERSION = os.environ.get("RTDSCAN_FLINK_VERSION", "1.20.1")
CONFIG = """
jobmanager.rpc.address: localhost
jobmanager.bind-host: localhost
rest.address: localhost
taskmanager.bind-host: localhost
taskmanager.host: localhost
taskmanager.numberOfTaskSlots: 2
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 10
restart-strategy.fixed-delay.delay: 1 s
"""


@dataclass(frozen=True)
class Cluster:
    """Beam options of a scan on it."""

    arguments: list[str]


@contextmanager
def standalone(folder: Path) -> Iterator[Cluster]:
    """Install, start, stop."""
    home = _install(folder / "flink")
    (home / "conf" / "workers").write_text("localhost\nlocalhost\n")
    (home / "conf" / "config.yaml").write_text(CONFIG)
    python = make_environment(folder / "worker", build_wheel(folder / "wheel"))
    environment = {**os.environ, "FLINK_HOME": str(home)}
    subprocess.run([str(home / "bin" / "start-cluster.sh")], env=environment, check=True)
    try:
        _wait("http://localhost:8081/overview")
        with serving(folder / "services", python) as services:
            version = ".".join(VERSION.split(".")[:2])
            external = ["--environment_type=EXTERNAL", f"--environment_config={services.pool_endpoint}"]
            yield Cluster(["--flink_master=localhost:8081", f"--flink_version={version}", "--parallelism=2", *external])
    finally:
        subprocess.run([str(home / "bin" / "stop-cluster.sh")], env=environment, check=False)


def _install(folder: Path) -> Path:
    """Flink's folder: `bin` and `conf` of one package, `lib` of the other, in an environment of its own."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet"]
    subprocess.run([*pip, "setuptools<81", "wheel"], check=True)
    for package in ("apache-flink-libraries", "apache-flink"):
        subprocess.run([*pip, "--no-deps", "--no-build-isolation", f"{package}=={VERSION}"], check=True)
    (home,) = folder.glob("lib/python*/site-packages/pyflink")
    return home


def _wait(url: str, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)
