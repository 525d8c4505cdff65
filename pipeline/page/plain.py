"""A stretch of our own HTML on the page: Gradio's styles for prose stay out of it."""

from typing import Any

import gradio as gr


def html(value: object = "", **given: Any) -> Any:
    """A `gr.HTML` that looks as review.css says."""
    return gr.HTML(value or "", apply_default_css=False, **given)
