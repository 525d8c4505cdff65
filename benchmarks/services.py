"""A Beam cluster in small: a job service and a worker pool, each a process, the pool in an environment of its own.

The worker's environment is a venv with the package installed from a wheel of this repository; all else it takes from
the environment that made it, so that it costs a second and 100 MB.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
START_SECONDS = 60.0
SETUPTOOLS = 77
"""The major version that pyproject.toml asks for; where it is installed nothing is fetched."""

_TELL = """
import importlib.util, os, sys
if "RTDSCAN_SERVICES_LOG" in os.environ:
    with open(os.environ["RTDSCAN_SERVICES_LOG"], "a") as log:
        log.write(f"{os.getpid()}\\t{sys.prefix}\\t{importlib.util.find_spec('rtdscan.transforms').origin}\\n")
"""


def build_wheel(folder: Path) -> Path:
    """A wheel of the repository; built in a copy, so that nothing is left in the tree."""
    source = folder / "source"
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "transforms", "pipeline"):
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            source.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, source / name)
    offline = ["--no-build-isolation"] if int(version("setuptools").partition(".")[0]) >= SETUPTOOLS else []
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *offline]
    _run([*build, "--wheel-dir", str(folder), str(source)])
    (wheel,) = folder.glob("*.whl")
    return wheel


def make_environment(folder: Path, wheel: Path) -> Path:
    """A virtual environment with the wheel installed; returns its python."""
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    python = folder / "bin" / "python"
    _run([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)])
    packages = Path(_run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
    # Not the path alone: the outer environment may itself have .pth files.
    outer = sysconfig.get_path("purelib")
    (packages / "outer.pth").write_text(f"import site; site.addsitedir({outer!r})\n")
    (packages / "sitecustomize.py").write_text(_TELL)
    return python


@dataclass(frozen=True)
class Services:
    """A job service and a worker pool that run.

    Attributes:
        job_endpoint, pool_endpoint: HOST:PORT.
        staging: Where the job service keeps what was staged.
        log: A line for each Python process of the pool's environment: pid, prefix, file of rtdscan.transforms.
        job_service, pool: The processes.
    """

    job_endpoint: str
    pool_endpoint: str
    staging: Path
    log: Path
    job_service: "subprocess.Popen[bytes]"
    pool: "subprocess.Popen[bytes]"

    @property
    def arguments(self) -> list[str]:
        """Beam options of a scan that uses them; the runner is PortableRunner."""
        return [
            f"--job_endpoint={self.job_endpoint}",
            "--environment_type=EXTERNAL",
            f"--environment_config={self.pool_endpoint}",
        ]

    def processes(self) -> dict[int, tuple[str, str]]:
        """pid -> (prefix, file of rtdscan.transforms) of all that ever ran in the pool's environment."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return {int(pid): (prefix, origin) for pid, prefix, origin in (line.split("\t") for line in lines)}


@contextmanager
def serving(folder: Path, python: Path, *, quiet: bool = False) -> Iterator[Services]:
    """Start both, in sessions of their own; all they started is killed at the end.

    Args:
        folder: For logs and what is staged.
        python: Of the pool's environment.
        quiet: Write no logs. A Beam worker that can't write its log, because the disk is full, hangs the job.
    """
    folder.mkdir(parents=True, exist_ok=True)
    staging, log = folder / "staging", folder / "processes"
    ports = [_free_port(), _free_port()]
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # The pool starts its workers as `python`, whichever comes first on its PATH.
    inner = {**plain, "PATH": f"{python.parent}:{os.environ['PATH']}", "RTDSCAN_SERVICES_LOG": str(log)}
    service = "apache_beam.runners.portability.local_job_service_main"
    serve = [sys.executable, "-m", service, "--port", str(ports[0]), "--staging_dir", str(staging)]
    pool = [str(python), "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={ports[1]}"]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name, command, environment in (("service", serve, plain), ("pool", pool, inner)):
            with open(os.devnull if quiet else folder / f"{name}.log", "wb") as said:
                started.append(_start(command, environment, said))
        for process, port in zip(started, ports, strict=True):
            _wait(process, port)
        yield Services(f"localhost:{ports[0]}", f"localhost:{ports[1]}", staging, log, *started)
    finally:
        for process in started:
            kill_session(process.pid)
            process.wait()


def kill_session(leader: int) -> None:
    """SIGKILL for all processes of a session."""
    for pid in session(leader):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def session(leader: int) -> list[int]:
    """Processes of a session that live."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,sess=,stat="], capture_output=True, text=True, check=True)
    lines = [line.split() for line in listed.stdout.splitlines()]
    return [int(pid) for pid, of, stat in lines if int(of) == leader and stat[0] != "Z"]


def _start(command: Sequence[str], environment: dict[str, str], said: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, env=environment, stdout=said, stderr=said, start_new_session=True)  # type: ignore[call-overload,no-any-return]


def _run(command: Sequence[str]) -> str:
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=plain, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")
    return done.stdout


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("localhost", port), timeout=1).close()
    except OSError:
        return False
    return True


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > until:
            raise TimeoutError(f"{process.args!r} does not answer (exit status {process.poll()})")
        time.sleep(0.1)
