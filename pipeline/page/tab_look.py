"""The tab where a person looks through a scan and judges its flags."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr
from markupsafe import Markup

from rtdscan.pipeline.page import markup
from rtdscan.pipeline.page.catalogue import MEASURES
from rtdscan.pipeline.page.documents import Documents
from rtdscan.pipeline.page.looking import ANY, VERDICTS, Key, Looking, View, Wanted
from rtdscan.pipeline.page.plain import html
from rtdscan.pipeline.page.settings import clean_name
from rtdscan.transforms.errors import RtdscanError
from rtdscan.transforms.records import STATUSES
from rtdscan.transforms.settings import DECISIONS

SAID = {"right": "right", "wrong": "wrong", "unsure": "not sure", "withdrawn": "taken back"}

Update = dict[Any, Any]
"""Component -> what it shows now."""


class LookTab:
    """Components and what they do. Make it within Blocks."""

    def __init__(self, looking: Looking, documents: Documents, *, reviewer: str, login: bool) -> None:
        """Build the tab.

        Args:
            looking: Views of the scan.
            documents: Its documents.
            reviewer: Name under which verdicts are stored where nobody logs in.
            login: Whether people log in.
        """
        self._looking = looking
        self._documents = documents
        self._reviewer = reviewer
        self._times = itertools.count()
        self.view = gr.State(View())
        self.chosen = gr.State(None)
        self._make_controls()
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                self._make_list()
            with gr.Column(scale=7, min_width=320):
                self._make_document(login=login)
        self._wire()

    # -- components

    def _make_controls(self) -> None:
        catalogue = self._looking.catalogue
        names = [(name, column) for column, name in catalogue.orders().items()]
        with gr.Row(equal_height=True):
            self.words = gr.Textbox(
                label="Text holds",
                placeholder="words, then Enter",
                elem_id="search",
                scale=4,
                max_lines=1,
                min_width=220,
            )
            self.order = gr.Dropdown(names, value="score", label="Sort by", elem_id="order", scale=2, min_width=150)
            self.descending = gr.Checkbox(True, label="highest first", elem_id="descending", scale=1, min_width=130)
        with gr.Accordion("Filters", open=False, elem_id="filters"):
            with gr.Row():
                self.low = gr.Slider(0, 1, value=0, step=0.01, label="Score from", elem_id="low", min_width=200)
                self.high = gr.Slider(0, 1, value=1, step=0.01, label="to", elem_id="high", min_width=200)
            with gr.Row():
                statuses, decisions = [ANY, *STATUSES], [ANY, *DECISIONS]
                small: dict[str, Any] = {"min_width": 130}
                self.status = gr.Dropdown(statuses, value=ANY, label="Status", elem_id="status", **small)
                self.decision = gr.Dropdown(decisions, value=ANY, label="Decision", elem_id="decision", **small)
                self.verdicts = gr.Dropdown(list(VERDICTS), value=ANY, label="Verdicts", elem_id="verdicts", **small)
                self.column = gr.Dropdown(
                    [(ANY, ANY), *catalogue.filters()], value=ANY, label="Column", elem_id="column", **small
                )
                self.value = gr.Dropdown(
                    [], value=None, label="is", allow_custom_value=True, elem_id="value", interactive=True, **small
                )
        self.controls = [
            self.words, self.low, self.high, self.status, self.decision, self.column, self.value, self.verdicts,
            self.order, self.descending,
        ]  # fmt: skip

    def _make_list(self) -> None:
        with gr.Row(equal_height=True, elem_id="pages"):
            self.where = html(elem_id="where", scale=4)
            self.back = gr.Button("‹", size="sm", min_width=44, scale=0, elem_id="page-back")
            self.on = gr.Button("›", size="sm", min_width=44, scale=0, elem_id="page-on")
        self.more = gr.Button("Search on", size="sm", visible=False, elem_id="search-on")
        self.rows = html(elem_id="list", js_on_load=markup.template("list.js"))

    def _make_document(self, *, login: bool) -> None:
        self.opened = html(
            markup.notice("Choose a document from the list."),
            elem_id="document",
            html_template=markup.template("document.html"),
            js_on_load=markup.template("document.js"),
        )
        self.said = html(elem_id="said")
        with gr.Row(equal_height=True):
            self.candidates = gr.Checkbox(False, label="also words that were nearly flagged", elem_id="candidates")
            self.name = gr.Textbox(
                "" if login else self._reviewer,
                label="Verdicts are stored as",
                elem_id="reviewer",
                interactive=not login,
                max_lines=1,
                max_length=80,
            )

    def _wire(self) -> None:
        # In order, and the last of several counts: a list must not show what was asked for before.
        last: dict[str, Any] = {"api_visibility": "private", "trigger_mode": "always_last", "concurrency_id": "list"}
        quiet: dict[str, Any] = {"show_progress": "hidden", **last}
        reading: dict[str, Any] = {**quiet, "concurrency_id": "document", "concurrency_limit": 4}
        every: dict[str, Any] = {**quiet, "trigger_mode": "multiple"}
        lists = [self.view, self.rows, self.where, self.back, self.on, self.more, self.said]
        slow: dict[str, Any] = {"show_progress_on": self.rows, **last}
        wanted = [*self.controls, self.chosen]
        self.words.submit(self.renewed, wanted, lists, **slow)
        for slider in (self.low, self.high):
            slider.release(self.renewed, wanted, lists, **quiet)
        for control in (self.status, self.decision, self.verdicts, self.value, self.order, self.descending):
            control.input(self.renewed, wanted, lists, **quiet)
        self.column.input(self.offered, wanted, [self.value, *lists], **quiet)
        self.rows.sort(self.turned_round, wanted, [self.order, self.descending, *lists], **quiet)
        self.back.click(self.page_back, [self.view, self.chosen], lists, **quiet)
        self.on.click(self.page_on, [self.view, self.chosen], lists, **quiet)
        self.more.click(self.searched_on, [self.view, self.chosen], lists, **slow)
        given = [self.chosen, self.name, self.candidates]
        told = [self.opened, self.said]
        self.rows.open(self.open_one, given, [self.chosen, *told], **reading)
        self.opened.step(self.step, [self.view, *given], [*lists, self.chosen, self.opened], **every)
        # One at a time and none left out: what is said last counts.
        self.opened.judge(self.judge, given, told, **{**every, "concurrency_id": "judge"})
        self.candidates.input(self.again, given, told, **reading)
        self.name.submit(self.again, given, told, **reading)
        self.name.blur(self.again, given, told, **reading)
        self.opening = [(self.renewed, wanted, lists), (self.named, self.name, [self.name])]

    # -- what they do

    def renewed(self, *given: Any) -> Update:
        """The list anew, from its first page. Given: what the controls say, then the open document."""
        *wanted, chosen = given
        return self._told(lambda: {self.said: "", **self._listed(self._looking.begin(Wanted(*wanted)), chosen)})

    def page_back(self, now: View, chosen: Key | None) -> Update:
        """The page before."""
        return self._told(lambda: self._listed(self._looking.turn(now, -1), chosen))

    def page_on(self, now: View, chosen: Key | None) -> Update:
        """The next page."""
        return self._told(lambda: self._listed(self._looking.turn(now, 1), chosen))

    def searched_on(self, now: View, chosen: Key | None) -> Update:
        """More of INPUT looked through."""
        return self._told(lambda: self._listed(self._looking.search_on(now), chosen))

    def offered(self, *given: Any) -> Update:
        """Values of a column to choose from, and the list without the old value."""
        *wanted, chosen = given
        asked = replace(Wanted(*wanted), value=None)

        def act() -> Update:
            values = [] if asked.column == ANY else self._looking.catalogue.values(asked.column)
            update = {self.said: "", self.value: gr.update(choices=values, value=None)}
            return {**update, **self._listed(self._looking.begin(asked), chosen)}

        return self._told(act)

    def turned_round(self, event: gr.EventData, *given: Any) -> Update:
        """Sorted by a heading; a second click turns the order round."""
        *wanted, chosen = given
        now, by = Wanted(*wanted), str(event._data.get("by"))
        if by not in MEASURES:
            return {}
        asked = replace(now, order=by, descending=not now.descending if now.order == by else True)
        update = {self.said: "", self.order: asked.order, self.descending: asked.descending}
        return self._told(lambda: {**update, **self._listed(self._looking.begin(asked), chosen)})

    def open_one(
        self, chosen: Key | None, given: str, nearly: bool, request: gr.Request, event: gr.EventData
    ) -> Update:
        """The document that was clicked."""
        chosen = (str(event._data.get("file")), int(event._data.get("row", -1)))
        return self._told(lambda: {self.chosen: chosen, **self._shown(chosen, given, nearly, request)})

    def step(
        self, now: View, chosen: Key | None, given: str, nearly: bool, request: gr.Request, event: gr.EventData
    ) -> Update:
        """The next document or the one before."""

        def act() -> Update:
            there, key = self._looking.step(now, chosen, 1 if event._data.get("by") == 1 else -1)
            if key == chosen:
                return {self.said: markup.notice("There is no further document in this list.")}
            shown = self._shown(key, given, nearly, request)
            return {self.chosen: key, **self._listed(there, key), **shown}

        return self._told(act)

    def judge(self, chosen: Key | None, given: str, nearly: bool, request: gr.Request, event: gr.EventData) -> Update:
        """Store a verdict; where that fails the page shows what is stored."""
        person, asked = self._who(given, request), event._data
        try:
            place = (str(asked["file"]), int(asked["row"]), int(asked["start"]), int(asked["end"]))
            stored = self._documents.judge(*place, verdict=str(asked["verdict"]), reviewer=person)
        except (RtdscanError, KeyError, TypeError, ValueError) as error:
            problem = markup.notice(f"This verdict was not stored: {error}", kind="problem")
            return {**self._told(lambda: self._shown(chosen, given, nearly, request)), self.said: problem}
        return {self.said: markup.notice(f"Stored: {SAID[stored.verdict]}, as {person}.", kind="good")}

    def again(self, chosen: Key | None, given: str, nearly: bool, request: gr.Request) -> Update:
        """The open document once more, with other marks or for another person."""
        return self._told(lambda: self._shown(chosen, given, nearly, request))

    def named(self, given: str, request: gr.Request) -> str:
        """Who the visitor is."""
        return self._who(given, request)

    def _who(self, given: str, request: gr.Request) -> str:
        return clean_name(getattr(request, "username", None) or given or self._reviewer)

    def _told(self, act: Callable[[], Update]) -> Update:
        """What goes wrong is a sentence on the page."""
        try:
            return act()
        except RtdscanError as error:
            return {self.said: markup.notice(str(error), kind="problem")}

    def _listed(self, now: View, chosen: Key | None) -> Update:
        counts = self._looking.verdicts.by_document()
        return {
            self.view: now,
            self.rows: markup.document_list(now.rows, now.query, counts=counts, chosen=chosen),
            self.where: Markup('<p class="where">{}</p>').format(self._looking.where(now)),
            self.back: gr.update(interactive=now.offset > 0),
            self.on: gr.update(interactive=now.offset + len(now.rows) < now.total),
            self.more: gr.update(visible=now.more),
        }

    def _shown(self, chosen: Key | None, given: str, nearly: bool, request: gr.Request) -> Update:
        if chosen is None:
            return {self.said: ""}
        self._looking.verdicts.renew()
        found = self._documents.show(*chosen, candidates=nearly)
        names = {column: found.attributes.get(column) for column in self._looking.catalogue.carried}
        page = markup.document(found, reviewer=self._who(given, request), names=names, time=next(self._times))
        return {self.opened: page, self.said: ""}
