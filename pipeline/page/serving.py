"""An HTTP server around the page, and how it ends."""

import json
import logging
import signal
import socket
import sys
from collections.abc import Callable, Mapping

import gradio as gr
import uvicorn
from fastapi import FastAPI

from rtdscan.pipeline.page import markup
from rtdscan.pipeline.page.address import is_loopback, url_of
from rtdscan.pipeline.page.blocks import theme
from rtdscan.pipeline.page.guard import Guard
from rtdscan.pipeline.page.settings import may_enter

GRACE_SECONDS = 1
"""Time that open connections have when the server ends; pages keep one open for ever."""


def serve(
    page: gr.Blocks, taken: socket.socket, *, host: str, users: Mapping[str, str], on_ready: Callable[[str], None]
) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        page: The page.
        taken: A listening socket.
        host: As given; decides whether only this machine may ask.
        users: Who may log in; nobody has to where it is empty.
        on_ready: Called with the URL once the page can be opened.
    """
    port = taken.getsockname()[1]

    def enter(name: str, password: str) -> bool:
        return may_enter(users, name, password)

    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page.queue(api_open=False),
        path="/",
        server_name=host,
        server_port=port,
        footer_links=[],
        run_history=False,
        auth=enter if users else None,
        auth_message="rtdscan review" if users else None,
        show_error=False,
        max_file_size=0,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=theme(),
        css=markup.template("review.css"),
    )
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # open pages at the end are no error
    settings = uvicorn.Config(
        Guard(app, loopback=is_loopback(host)),
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )
    server = _Server(settings, on_ready=lambda: on_ready(url_of(host, port)))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.run(sockets=[taken])
    except KeyboardInterrupt:  # uvicorn has ended in order, then raises the signal again
        pass
    finally:
        taken.close()


class _Server(uvicorn.Server):
    """Tells when it answers."""

    def __init__(self, config: uvicorn.Config, *, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def announce(url: str, *, output: str | None, as_json: bool) -> None:
    """Say where the page is."""
    if as_json:
        print(json.dumps({"url": url, "output": output}), flush=True)
    else:
        print(f"review: {url}", flush=True)
        print("rtdscan: Ctrl-C ends it", file=sys.stderr, flush=True)
