"""A Ray cluster on this machine: a head without CPUs, and nodes that are processes of their own."""

import os
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before the import

from ray.cluster_utils import Cluster

MEMORY = 80 << 20

TELL = """
    from rtdscan.transforms.scorer import Scorer
    load = Scorer.from_bundle
    def told(bundle, **more):
        with open({log!r}, "a") as log:
            log.write(f"{{os.getpid()}} {{os.getppid()}}\\n")
        return load(bundle, **more)
    Scorer.from_bundle = staticmethod(told)
"""
"""Notes each load of a model: process, and the node's process that started it."""

SLOW = """
    import time
    forward = Engine.forward
    def slow(self, *args):
        time.sleep({seconds})
        return forward(self, *args)
    Engine.forward = slow
"""
"""After a hook that names the class Engine."""


class Rays:
    """The cluster.

    Attributes:
        folder: For hooks and notes.
        address: host:port of the head.
        nodes: Those beside the head.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": MEMORY},
        )
        self.address: str = self._cluster.address
        self.nodes: list[Any] = []

    def add_node(self, *hooks: str, cpus: int = 1, env: dict[str, str] | None = None) -> Any:
        """Start a node whose workers run code before anything else, with more environment variables."""
        hook = self.folder / f"hook{len(list(self.folder.glob('hook*')))}"
        hook.mkdir()
        body = "".join(
            f"    {textwrap.dedent(code).strip()}\n".replace("\n", "\n    ").rstrip() + "\n" for code in hooks
        )
        head = (
            "import sys\nif any(part.endswith('default_worker.py') for part in sys.orig_argv):\n    import os, signal\n"
        )
        (hook / "sitecustomize.py").write_text(head + body)
        path = os.pathsep.join([str(hook), *sys.path])
        node = self._cluster.add_node(
            num_cpus=cpus, memory=4 << 30, object_store_memory=MEMORY, env_vars={"PYTHONPATH": path, **(env or {})}
        )
        self.nodes.append(node)
        return node

    def kill_node(self, node: Any) -> None:
        """SIGKILL for all processes of a node at once."""
        raylet = psutil.Process(raylet_of(node))
        for process in [raylet, *raylet.children(recursive=True)]:
            process.send_signal(signal.SIGKILL)
        self.nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def loads(self) -> list[tuple[int, int]]:
        """(process, its node's process) of each load of a model on a node with the hook TELL."""
        log = self.folder / "loads"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(int(pid), int(parent)) for pid, parent in map(str.split, lines)]

    def tell(self) -> str:
        """The hook TELL of this cluster."""
        return TELL.format(log=str(self.folder / "loads"))

    def sets(self, *more: str) -> list[str]:
        """Options of a scan on it."""
        return ["runner=ray", f"ray.address={self.address}", "ray.memory_per_task=0.5", "workers=auto", *more]

    def close(self) -> None:
        """Stop all nodes."""
        self._cluster.shutdown()


def raylet_of(node: Any) -> int:
    """Process number of a node's own process."""
    return int(node.all_processes["raylet"][0].process.pid)
