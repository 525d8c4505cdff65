"""What is known to go wrong on Dataflow, looked for before a job is submitted."""

from collections.abc import Callable, Sequence

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, SetupOptions, WorkerOptions

from rtdscan.transforms.errors import UserError
from rtdscan.transforms.storage import is_local


def check_dataflow(flags: PipelineOptions, *, paths: Sequence[str], default_region: Callable[[], str | None]) -> None:
    """Look at the options.

    Args:
        flags: Pipeline options.
        paths: INPUT and OUTPUT.
        default_region: What Google's tools are set to; asked only where no region is given.

    Raises:
        UserError: The job would be refused, or its workers could not import this package or see a path.
    """
    for path in paths:
        if is_local(path):
            raise UserError(f"DataflowRunner: {path} lies on this machine, where no worker sees it; give a gs:// path")
    cloud = flags.view_as(GoogleCloudOptions)
    if not cloud.project:
        raise UserError("DataflowRunner: project is not set; set beam.project to the one that pays")
    if not (cloud.region or default_region()):
        raise UserError("DataflowRunner: region is not set; set beam.region to that of the buckets")
    if not (cloud.temp_location or cloud.staging_location):
        raise UserError(
            "DataflowRunner: temp_location is not set; set beam.temp_location to a gs:// folder of the region"
        )
    worker, setup = flags.view_as(WorkerOptions), flags.view_as(SetupOptions)
    image = worker.sdk_container_image or worker.worker_harness_container_image
    if not (image or setup.setup_file or setup.requirements_file or setup.extra_packages):
        raise UserError(
            "DataflowRunner: workers would run in Beam's own image, which has neither this package nor a model; set"
            " beam.sdk_container_image to the image of configs/Dockerfile (see configs/dataflow.yaml)"
        )
