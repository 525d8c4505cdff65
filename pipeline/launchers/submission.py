"""What can be known to be wrong before a Beam runner gets the graph: a line now instead of a hang later."""

import socket
from collections.abc import Mapping, Sequence
from typing import Any

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.runners.runner import create_runner
from apache_beam.transforms.environments import Environment

from rtdscan.pipeline.launchers.flink import check_flink
from rtdscan.transforms.errors import RtdscanError, UserError
from rtdscan.transforms.storage import is_local

CONNECT_SECONDS = 10.0
"""What a service gets to accept a connection; Beam itself would wait for 5 minutes."""

PORTABLE = ("PortableRunner", "FlinkRunner", "SparkRunner")
"""Runners that hand the graph to a job service."""

CLUSTERS = ("FlinkRunner", "SparkRunner", "DataflowRunner")
"""Runners whose workers are other machines."""


def pipeline_options(runner: str, options: Mapping[str, Any], arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options from the config and, winning over it, the command line."""
    given = {one.partition("=")[0][2:].replace("-", "_") for one in arguments if one.startswith("--")}
    return PipelineOptions([*arguments], runner=runner, **{k: v for k, v in options.items() if k not in given})


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
        UserError: An option is missing or wrong.
        RtdscanError: The job service can't be reached.
    """
    flags = pipeline_options(runner, options, arguments)
    FileSystems.set_options(flags)
    try:
        create_runner(runner)
    except (ValueError, ImportError, AttributeError) as error:
        raise UserError(f"runner {runner}: {_first_line(error)}") from error
    name = runner.rpartition(".")[2]
    if name in CLUSTERS:
        _check_given(name, engine=engine, precision=precision)
    if name in PORTABLE:
        _check_portable(name, flags.view_as(PortableOptions))
    if name == "FlinkRunner":
        check_flink(flags)
    if name == "DataflowRunner":
        _check_shared(name, paths)


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


def _check_shared(runner: str, paths: Sequence[str]) -> None:
    for path in paths:
        if is_local(path):
            raise UserError(f"{runner}: {path} lies on this machine, where no worker sees it; give a gs:// path")


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
