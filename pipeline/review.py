"""`rtdscan review [OUTPUT]`: a page to try a text, look through a scan, and say what its flags are worth."""

import argparse
import contextlib
import importlib.util
import os
import sys
from typing import Any

from rtdscan.pipeline.config import load_config
from rtdscan.pipeline.page.address import bind, check_login
from rtdscan.pipeline.page.settings import ReviewConfig, read_users
from rtdscan.transforms.errors import UserError

HELP = (
    "Serve a page on this machine: try a text, look through a finished scan, judge its flags. Verdicts are kept in\n"
    "OUTPUT/verdicts, which `rtdscan calibrate` and `rtdscan evaluate` read. Ctrl-C ends it.\n\n"
    "Only this machine can reach the page, and everyone who works on it. With --host others can, and must log in:\n"
    "users.env or users.file says who."
)
CONFIG = ReviewConfig
NEEDED = ("gradio", "duckdb")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """OUTPUT, --host, --port."""
    parser.add_argument(
        "output", metavar="OUTPUT", nargs="?", help="folder of a finished scan; without, only texts are tried"
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on; default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=7860, metavar="P", help="default: 7860; 0: any that is free")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C, which is how it is meant to end."""
    with contextlib.suppress(KeyboardInterrupt):  # before the page was there
        _review(args)
    print("rtdscan: the page has ended; verdicts were stored as they were given", file=sys.stderr)
    return 0


def _review(args: argparse.Namespace) -> None:
    from rtdscan.pipeline.output import read_run

    if not 0 <= args.port <= 65535:
        raise UserError(f"--port {args.port}: expected 0 to 65535")
    base: dict[str, Any] = {}
    if args.output is not None:
        recorded = read_run(args.output)["config"]
        base = {"model": recorded["model"]}
    config = load_config(ReviewConfig, files=args.config, sets=args.set, base=base)
    users = read_users(config.users)
    check_login(args.host, users)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f'rtdscan review needs {" and ".join(missing)}; install it: pip install ".[review]" in rtdscan\'s folder'
        )
    _keep_to_ourselves()
    taken = bind(args.host, args.port)
    try:
        from rtdscan.pipeline.page.blocks import make_page
        from rtdscan.pipeline.page.serving import announce, serve

        page = make_page(config, args.output, login=bool(users))
    except BaseException:
        taken.close()
        raise
    serve(
        page,
        taken,
        host=args.host,
        users=users,
        on_ready=lambda url: announce(url, output=args.output, as_json=args.json),
    )


def _keep_to_ourselves() -> None:
    """Switch off what the libraries report; before they are imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_MCP_SERVER"] = "False"
    os.environ["GRADIO_SHARE"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["DO_NOT_TRACK"] = "1"
