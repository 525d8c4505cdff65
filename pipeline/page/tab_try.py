"""The tab where a person tries a text."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from rtdscan.pipeline.page import markup
from rtdscan.pipeline.page.plain import html
from rtdscan.pipeline.page.trying import Model, State
from rtdscan.transforms.errors import RtdscanError

EXAMPLES = (
    "I recieved teh letter form him yesterday.",
    "They decided to postpone they're meeting until banana.",
    "She drives to work because the trains are to slow.",
    "The report shows that revenue grew by seven per cent.",
    "我们明天早上在学校门口见面。",
    "我昨天去图书馆还书，今天天气香蕉很好。",
)

UNKNOWN = 0.2
"""Share of tokens outside the vocabulary from which the page warns."""


def make_try(model: Model, *, load: bool) -> list[tuple[Any, list[Any]]]:
    """Build the tab within the current Blocks.

    Args:
        model: The model.
        load: Load it when the page is opened.

    Returns:
        What is to be done when the page is opened: (function, outputs).
    """
    with gr.Row(equal_height=True):
        state = html(markup.model_state(model.state), elem_id="model", scale=6)
        loader = gr.Button("Load the model", size="sm", elem_id="load", scale=1, min_width=140, visible=not load)
    text = gr.Textbox(
        label="Text",
        lines=4,
        max_lines=16,
        placeholder="Write or paste a sentence …",
        elem_id="sentence",
        autofocus=True,
    )
    with gr.Column(elem_id="examples"):
        chosen = gr.Dataset(
            label="Examples", components=[text], samples=[[example] for example in EXAMPLES], type="index",
            layout="gallery", samples_per_page=len(EXAMPLES),
        )  # fmt: skip
    with gr.Row(elem_id="runs"):
        run = gr.Button("Run", variant="primary", elem_id="run", scale=1, min_width=120)
        limit = gr.Slider(
            0,
            1,
            value=0.5,
            step=0.01,
            label="Threshold",
            elem_id="threshold",
            scale=4,
            min_width=240,
        )
    result = html(elem_id="result", js_on_load=markup.template("words.js"))
    with gr.Accordion("Tokens", open=False, elem_id="tokens"):
        table = html(markup.notice("Run a text to see what the network made of each of its pieces."))

    def shown(told: State) -> dict[Any, Any]:
        return {state: markup.model_state(told), loader: gr.update(visible=told.state in ("idle", "failed"))}

    def loaded() -> Iterator[dict[Any, Any]]:
        if model.state.state != "ready":
            yield shown(State("loading", model.state.name))
        told = model.load()
        yield shown(told) | ({limit: round(told.flag, 2)} if told.flag is not None else {})

    def scored(words: str, threshold: float) -> dict[Any, Any]:
        try:
            tried = model.score(words or "", flag=threshold)
        except RtdscanError as error:
            return {result: markup.notice(str(error), kind="problem"), table: "", **shown(model.state)}
        warning = ""
        unknown = tried.row["unk_share"] or 0.0
        if unknown >= UNKNOWN:
            warning = (
                f"{unknown:.0%} of the tokens are outside the model's vocabulary: perhaps a language it doesn't know."
            )
        return {result: markup.notice(warning) + markup.words(tried), table: markup.tokens(tried), **shown(model.state)}

    def example(number: int, threshold: float) -> dict[Any, Any]:
        return {text: EXAMPLES[number], **scored(EXAMPLES[number], threshold)}

    outputs = [result, table, state, loader]
    quiet: dict[str, Any] = {"api_visibility": "private"}
    loader.click(loaded, None, [state, loader, limit], show_progress="hidden", **quiet)
    run.click(scored, [text, limit], outputs, show_progress_on=result, **quiet)
    text.submit(scored, [text, limit], outputs, show_progress_on=result, **quiet)
    chosen.click(example, [chosen, limit], [text, *outputs], show_progress_on=result, **quiet)
    tell = "(v) => { window.rtdscan_threshold = v; window.dispatchEvent(new Event('rtdscan:threshold')); }"
    limit.input(None, limit, None, js=tell, **quiet)
    limit.change(None, limit, None, js=tell, **quiet)
    return [(loaded, [state, loader, limit])] if load else []
