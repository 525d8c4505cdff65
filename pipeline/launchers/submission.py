"""What can be known to be wrong before a Beam runner gets the graph: a line now instead of a hang later."""

import socket
from collections.abc import Mapping, Sequence
from typing import Any

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PortableOptions
from apache_beam.runners.runner import create_runner
from apache_beam.transforms.environments import Environment

from rtdscan.pipeline.launchers.beam_options import check_names, pipeline_options
from rtdscan.pipeline.launchers.dataflow import check_dataflow
from rtdscan.pipeline.launchers.flink import check_flink
from rtdscan.transforms.errors import RtdscanError, UserError

CONNECT_SECONDS = 10.0
"""What a service gets to accept a connection; Beam itself would wait for 5 minutes."""

PORTABLE = ("PortableRunner", "FlinkRunner", "SparkRunner")
"""Runners that hand the graph to a job service."""

CLUSTERS = ("FlinkRunner", "SparkRunner", "DataflowRunner")
"""Runners whose workers are other machines."""


def check_submission(
    runner: str,
    options: Mapping[str, Any],
    arguments: Sequence[str],
    *,
    paths: Sequence[str],
    engine: str,
    precision: str,
) -> None:
    """Look for known mistakes, and give Beam's file systems their options: planning reads through them.

    Args:
        runner: Name of the runner.
        options: Pipeline options by name.
        arguments: Pipeline options as on a command line.
        paths: INPUT and OUTPUT.
        engine: As configured.
        precision: As configured.

    Raises:
        UserError: An option is missing, unknown or wrong.
        RtdscanError: The job service can't be reached.
    """
    try:
        found = create_runner(runner)
    except (ValueError, ImportError, AttributeError) as error:
        raise UserError(f"runner {runner}: {_first_line(error)}") from error
    check_names(runner, options, arguments)
    flags = pipeline_options(runner, options, arguments)
    FileSystems.set_options(flags)
    name = runner.rpartition(".")[2]
    if name in CLUSTERS:
        _check_given(name, engine=engine, precision=precision)
    if name in PORTABLE:
        _check_portable(name, flags.view_as(PortableOptions))
    if name == "FlinkRunner":
        check_flink(flags)
    if name == "DataflowRunner":
        check_dataflow(flags, paths=paths, default_region=found.get_default_gcp_region)


def _check_given(runner: str, *, engine: str, precision: str) -> None:
    """`auto` would be what this machine has, which says nothing about the workers."""
    for key, value, example in (("engine", engine, "openvino"), ("precision", precision, "float32")):
        if value == "auto":
            raise UserError(
                f"{runner}: {key} is auto, which is decided by this machine, not by the workers; set {key}={example},"
                " or what they have"
            )


def _check_portable(runner: str, portable: PortableOptions) -> None:
    try:
        Environment.from_options(portable)
    except (ValueError, NotImplementedError, AttributeError) as error:
        raise UserError(
            f"{runner}: environment_type is {portable.environment_type}: {_first_line(error)};"
            " expected DOCKER, PROCESS, EXTERNAL or LOOPBACK, with its environment_config"
        ) from error
    endpoint = portable.job_endpoint
    if endpoint and endpoint != "embed":
        check_reachable(endpoint, f"{runner}: no job service answers at job_endpoint {endpoint}")
    elif runner == "PortableRunner" and not endpoint:
        raise UserError("PortableRunner: job_endpoint is not set; expected HOST:PORT of a Beam job service")


def check_reachable(endpoint: str, problem: str) -> None:
    """Open and close a connection.

    Raises:
        UserError: It is not HOST:PORT.
        RtdscanError: Nobody answers; the message begins with `problem`.
    """
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"{problem}: expected HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise RtdscanError(f"{problem} ({error}); is it running, and is the address right?") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
