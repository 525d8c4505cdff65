"""The Gradio page: two tabs, their look, what happens when it is opened."""

from typing import Any

import gradio as gr
from markupsafe import Markup

from rtdscan.pipeline.page import markup
from rtdscan.pipeline.page.catalogue import Catalogue
from rtdscan.pipeline.page.documents import Documents
from rtdscan.pipeline.page.judging import Verdicts
from rtdscan.pipeline.page.looking import Looking
from rtdscan.pipeline.page.plain import html
from rtdscan.pipeline.page.settings import ReviewConfig, default_reviewer
from rtdscan.pipeline.page.tab_look import LookTab
from rtdscan.pipeline.page.tab_try import make_try
from rtdscan.pipeline.page.trying import Model

FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")


def make_page(config: ReviewConfig, output: str | None, *, login: bool) -> gr.Blocks:
    """Build the page.

    Args:
        config: Options.
        output: OUTPUT of a finished scan, or none.
        login: Whether people log in.

    Raises:
        UserError: OUTPUT is not a finished scan in a local folder.
        RtdscanError: Its manifest or verdicts are damaged.
    """
    catalogue = Catalogue(output) if output is not None else None
    verdicts = Verdicts(output) if output is not None else None
    model = Model(config)
    opening: list[tuple[Any, Any, Any]] = []
    with gr.Blocks(title="rtdscan review", analytics_enabled=False, fill_width=True) as page:
        html(_head(catalogue), elem_id="head")
        with gr.Tabs(selected="try" if catalogue is None else "look"):
            with gr.Tab("Look and judge", id="look", elem_id="tab-look"):
                if catalogue is None or verdicts is None:
                    html(markup.notice("To look through a scan, start `rtdscan review OUTPUT` with its folder."))
                else:
                    looking = Looking(catalogue, verdicts, rows=config.rows, seconds=config.search_seconds)
                    documents = Documents(catalogue, verdicts)
                    tab = LookTab(looking, documents, reviewer=default_reviewer(config), login=login)
                    opening += tab.opening
            with gr.Tab("Try a text", id="try", elem_id="tab-try"):
                opening += [(act, None, shown) for act, shown in make_try(model, load=config.load)]
        for act, given, outputs in opening:
            page.load(act, given, outputs, show_progress="hidden", api_visibility="private")
    return page


def theme() -> Any:
    """Colours as in the report, fonts of the reader's own system."""
    hue = gr.themes.Color(
        "#f1f6f9", "#dfeaf1", "#c3d8e5", "#9cbfd5", "#6f9fbd", "#4b82a4", "#3d7092", "#325c79", "#2b4d64", "#264154",
        "#172b39", name="slate-blue",
    )  # fmt: skip
    fonts = [gr.themes.utils.fonts.Font(name) for name in FONT]
    mono = [gr.themes.utils.fonts.Font(name) for name in MONO]
    base = gr.themes.Default(primary_hue=hue, secondary_hue=hue, neutral_hue="stone", font=fonts, font_mono=mono)
    return base.set(
        body_background_fill="#faf9f6",
        body_background_fill_dark="#15171a",
        body_text_color="#24272c",
        body_text_color_dark="#e4e1db",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1c1f23",
        block_border_color="#e3e0d9",
        block_border_color_dark="#363a41",
        block_label_text_color="#5f646c",
        block_label_text_color_dark="#a2a6ad",
        block_title_text_color="#5f646c",
        block_title_text_color_dark="#a2a6ad",
        input_background_fill="#ffffff",
        input_background_fill_dark="#15171a",
        button_primary_background_fill="#2f6285",
        button_primary_background_fill_hover="#264f6c",
        button_primary_background_fill_dark="#3d7092",
        button_primary_background_fill_hover_dark="#4b82a4",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
    )


def _head(catalogue: Catalogue | None) -> str:
    frame = Markup('<h1><span class="brand">rtdscan review</span> <bdi>{}</bdi></h1><p>{}</p>')
    if catalogue is None:
        return frame.format("Try a text", "")
    run, output = catalogue.finished.run, catalogue.output
    facts = [
        f"{catalogue.rows:,} documents",
        *(_last_part(path) for path in run["inputs"][:3]),
        run["model"]["name"],
        str(run["finished_at"])[:10],
    ]
    told = Markup(" · ").join(Markup("<bdi>{}</bdi>").format(markup.shown(fact, 120)) for fact in facts)
    return frame.format(markup.shown(_last_part(output), 80), told)


def _last_part(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] or path
