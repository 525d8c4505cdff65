"""Whether the runner that was asked for can run the scan, as far as can be known before anything is read."""

import importlib.util
from collections.abc import Sequence

from rtdscan.pipeline.config import ScanConfig
from rtdscan.transforms import storage
from rtdscan.transforms.errors import UserError

LOCAL = ("local", "DirectRunner")
"""Runners that use the cores of this machine."""


def check_runner(config: ScanConfig, beam_args: Sequence[str], *, paths: Sequence[str]) -> None:
    """See that `runner` is there and that its options fit.

    Args:
        config: All options.
        beam_args: Options for a Beam runner.
        paths: INPUT and OUTPUT.

    Raises:
        UserError: It is not installed, or an option is wrong; one line.
    """
    if config.runner == "ray" and importlib.util.find_spec("ray") is None:
        raise UserError("runner ray: the package ray is not installed; pip install 'rtdscan[ray]'")
    if config.runner not in (*LOCAL, "ray"):
        storage.import_beam()
        from rtdscan.pipeline.launchers.submission import check_submission

        chosen = {"engine": config.engine, "precision": config.precision}
        check_submission(config.runner, config.beam, beam_args, paths=paths, **chosen)
    elif config.beam or beam_args:
        given = next(iter([*beam_args, *config.beam]))
        raise UserError(f"runner {config.runner} takes no Beam options, but {given} was given; set `runner`")
