"""What is known to go wrong on Flink, looked for before a job is submitted: a line now instead of a hang later."""

import json
import re
import urllib.error
import urllib.request
from typing import Any

from apache_beam.options.pipeline_options import FlinkRunnerOptions, JobServerOptions, PipelineOptions, PortableOptions

from rtdscan.transforms.errors import RtdscanError, UserError
from rtdscan.transforms.storage import is_local

SECONDS = 10.0
"""What Flink's REST interface gets to answer."""

_HERE = ("[local]", "[auto]")
_LOCAL_HOSTS = re.compile(r"(https?://)?(localhost|127\.0\.0\.1|\[::1\])(:|/|$)")
_OFF = (None, "", "none", "off", "disable", "no")


def check_flink(flags: PipelineOptions) -> None:
    """Look at the options, and at the cluster where its address is given.

    Raises:
        UserError: The job would hang, end at the first fault, or run on one worker.
        RtdscanError: The cluster does not answer.
    """
    portable, flink = flags.view_as(PortableOptions), flags.view_as(FlinkRunnerOptions)
    master = str(flink.flink_master).strip()
    if master in _HERE and not portable.job_endpoint:
        return  # a cluster in the job server's own process, for trying things out
    _check_environment(portable)
    if not portable.job_endpoint:
        _check_artifacts(flags.view_as(JobServerOptions).artifacts_dir, master)
    if flink.parallelism is None or flink.parallelism < 1:
        raise UserError(
            "FlinkRunner: parallelism is not set, so Flink's default holds, one worker; set beam.parallelism"
        )
    given = flags.get_all_options(retain_unknown_options=True)
    if master not in _HERE:
        _check_cluster(_url(master), flink=flink, given=given)


def _check_environment(portable: PortableOptions) -> None:
    kind, config = portable.environment_type or "DOCKER", portable.environment_config
    if kind == "DOCKER" and not (config or portable.lookup_environment_option("docker_container_image")):
        raise UserError(
            "FlinkRunner: workers would run in Beam's own Docker image, which has neither this package nor a model;"
            " set beam.environment_config to the image of configs/Dockerfile, or beam.environment_type to PROCESS or"
            " EXTERNAL (see configs/flink.yaml)"
        )
    if kind == "LOOPBACK":
        raise UserError(
            "FlinkRunner: environment_type is LOOPBACK, by which all workers would run on this machine; expected"
            " DOCKER, PROCESS or EXTERNAL"
        )
    if kind == "PROCESS" and not (config or portable.lookup_environment_option("process_command")):
        raise UserError("FlinkRunner: PROCESS needs beam.environment_options: [process_command=/path/of/boot]")
    if kind == "EXTERNAL" and not (config or portable.lookup_environment_option("external_service_address")):
        raise UserError(
            "FlinkRunner: EXTERNAL needs beam.environment_config, HOST:PORT of the worker pool on each host"
        )


def _check_artifacts(folder: str | None, master: str) -> None:
    if not _LOCAL_HOSTS.match(master) and (not folder or (is_local(folder) and folder.startswith("/tmp/"))):
        raise UserError(
            f"FlinkRunner: artifacts_dir is {folder or 'not set'}, a folder of this machine, where the TaskManagers of"
            f" {master} would look for what is staged and wait; set beam.artifacts_dir to one that all share, or s3://"
        )


def _check_cluster(url: str, *, flink: Any, given: dict[str, Any]) -> None:
    overview, config = _get(url, "/overview"), _get(url, "/jobmanager/config")
    version = str(overview.get("flink-version", ""))
    if version and not f"{version}.".startswith(f"{flink.flink_version}."):
        raise UserError(
            f"FlinkRunner: {url} is Flink {version}, but flink_version is {flink.flink_version}: the job server must be"
            " that of the cluster"
        )
    slots = int(overview.get("slots-total", 0))
    if slots < flink.parallelism:
        raise UserError(
            f"FlinkRunner: parallelism is {flink.parallelism}, but {url} has {slots} task slots: the job would wait for"
            " more; set fewer, or start TaskManagers"
        )
    settings = {str(entry["key"]): str(entry["value"]) for entry in config}
    restarts = settings.get("restart-strategy.type", settings.get("restart-strategy"))
    retries = int(given.get("number_of_execution_retries") or 0)
    if retries < 1 and (restarts.lower() if restarts else None) in _OFF:
        raise UserError(
            f"FlinkRunner: {url} has no restart strategy, which is Flink's default: the first TaskManager that dies"
            " would end the job; set restart-strategy.type: fixed-delay in its config, or"
            " beam.number_of_execution_retries"
        )
    idle = given.get("shutdown_sources_after_idle_ms")
    if int(given.get("checkpointing_interval") or 0) > 0 and (idle is None or int(idle) < 0):
        raise UserError(
            "FlinkRunner: with checkpointing a job without end of input does not end; set"
            " beam.shutdown_sources_after_idle_ms to 0, or leave beam.checkpointing_interval out"
        )


def _url(master: str) -> str:
    return master.rstrip("/") if re.match(r"https?://", master) else f"http://{master.rstrip('/')}"


def _get(url: str, path: str) -> Any:
    try:
        with urllib.request.urlopen(f"{url}{path}", timeout=SECONDS) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:  # URLError and timeouts; no address, no JSON
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise RtdscanError(
            f"FlinkRunner: no Flink answers at {url}{path} ({reason}); expected its REST address as flink_master"
        ) from error
