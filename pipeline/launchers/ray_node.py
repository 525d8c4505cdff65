"""What Ray runs on a node. The function is sent there as code, not by name, so that it can tell when the package is
missing or another version; it uses nothing of this module and imports what it needs itself.
"""

from typing import Any


def run_on_node(wanted: str, mark: str, payload: bytes | None) -> dict[str, Any]:
    """Look whether this node can take part, and run a task.

    Args:
        wanted: Version of rtdscan.
        mark: A file of the launcher's in OUTPUT.
        payload: A pickled `Task`; None: only look.

    Returns:
        `node` (where this is), `error` (one line, None where all is well) and `done` (fields of `Done`s).
    """
    import importlib.metadata
    import pickle
    import socket
    import sys
    from dataclasses import asdict

    node = socket.gethostname()
    try:
        import ray

        node = f"{ray.util.get_node_ip_address()} ({node})"
        found = importlib.metadata.version("rtdscan")
        from rtdscan.transforms import storage
        from rtdscan.transforms.errors import RtdscanError
    except (importlib.metadata.PackageNotFoundError, ImportError) as error:
        told = f"rtdscan can't be imported by {sys.executable} ({error}); install rtdscan {wanted} on every node"
        return {"node": node, "error": told, "done": []}
    if found != wanted:
        told = f"has rtdscan {found}, but this scan was started by {wanted}; install the same version on every node"
        return {"node": node, "error": told, "done": []}
    try:
        if not storage.exists(mark):
            told = (
                f"does not see OUTPUT (no {mark}); use a disk that all nodes mount at the same path, or s3:// or gs://"
            )
            return {"node": node, "error": told, "done": []}
        if payload is None:
            return {"node": node, "error": None, "done": []}
        from rtdscan.transforms.absent import keep_out
        from rtdscan.transforms.task import run_task

        task = pickle.loads(payload)
        keep_out(*task.job.unused)  # a Ray worker runs nothing but this scan's tasks
        return {"node": node, "error": None, "done": [asdict(done) for done in run_task(task)]}
    except RtdscanError as error:
        return {"node": node, "error": str(error), "done": []}
