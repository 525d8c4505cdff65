"""The page of `rtdscan review` in headless Chromium: each control does what it says, and a hostile corpus is text."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import options, run_here, table
from test_report_browser import CHROMIUM, DRIVER, HOSTILE, UNSEEN, contrast, look

from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.detection.verdicts import read_verdicts, write_verdict

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
pytestmark = [
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver on the PATH"),
    pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed"),
    pytest.mark.slow,
]

SUGGESTED = ["tea", "<b>ten</b>", "\u202egol"]
WAIT_SECONDS = 30
VERDICTS = ("right", "wrong", "unsure")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Path:
    """A scan of plain rows and of hostile ones; spans of the plain ones have suggestions."""
    folder = tmp_path_factory.mktemp("page")
    corpus = folder / "corpus"
    (corpus / "<img src=x onerror=window.pwned=7>").mkdir(parents=True)
    pq.write_table(table(0, 40), corpus / "plain.parquet")
    n = len(HOSTILE)
    rows = {
        "key": pa.array(range(1000, 1000 + n), pa.uint32()),
        "source": [f"<i>v</i>\u202e{at % 3}" for at in range(n)],
        "text": HOSTILE,
    }
    pq.write_table(pa.table(rows), corpus / "<img src=x onerror=window.pwned=7>" / "hostile.parquet")
    sets = ["output.columns=[source]", "thresholds.flag=0.4", "input.text=text", "unit.text_mb=4"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtdscan.pipeline.launchers.local.run_local", run_here)
        assert main(["scan", str(corpus), str(folder / "out"), *options(tiny_bundle, *sets)]) == 0
    (shard,) = (path for path in (folder / "out" / "attributes" / "plain.parquet").iterdir() if path.is_file())
    found = pq.read_table(shard, partitioning=None)
    spans = [
        None if row is None else [{**span, "suggestions": SUGGESTED} for span in row]
        for row in found["spans"].to_pylist()
    ]
    at = found.schema.get_field_index("spans")
    pq.write_table(found.set_column(at, found.schema.field(at), pa.array(spans, found.schema.field(at).type)), shard)
    return folder / "out"


@pytest.fixture(scope="module")
def url(output: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "rtdscan.pipeline", "review", str(output), "--port", "0", "--json"]
    sets = ["engine=torch", "precision=float32", "reviewer=ana", "rows=15", "search_seconds=0.001"]
    given = [part for option in sets for part in ("--set", option)]
    with subprocess.Popen(
        [*command, *given], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as page:
        assert page.stdout is not None
        yield json.loads(page.stdout.readline())["url"]
        page.terminate()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chosen = webdriver.ChromeOptions()
    chosen.binary_location = str(CHROMIUM)
    quiet = ["background-networking", "component-update", "sync", "default-apps", "extensions", "gpu", "dev-shm-usage"]
    flags = ["headless", "no-sandbox", "no-first-run", *(f"disable-{name}" for name in quiet)]
    for flag in (*flags, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        chosen.add_argument(f"--{flag}")
    chosen.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=chosen, service=webdriver.ChromeService(str(DRIVER)))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


class Page:
    """What a person does with the page and sees of it."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self) -> None:
        self.driver.get(self.url)
        self.wait(lambda: self.all("#list tr[data-file]"))
        self.wait(lambda: self.text("#where .where"))

    def all(self, selector: str) -> list[Any]:
        found: list[Any] = self.driver.find_elements("css selector", selector)
        return found

    def text(self, selector: str) -> str:
        """What a reader sees; nothing where there is no such element."""
        script = "return document.querySelector(arguments[0])?.innerText ?? ''"
        return str(self.driver.execute_script(script, selector)).strip()

    def wait(self, condition: Callable[[], Any]) -> Any:
        until = time.monotonic() + WAIT_SECONDS
        while not (found := condition()):
            assert time.monotonic() < until, f"never: {condition}; {self.text('#said')}"
            time.sleep(0.04)
        return found

    def press(self, *keys: str) -> None:
        for key in keys:
            self.driver.find_element("tag name", "body").send_keys(key)

    def click(self, selector: str) -> None:
        self.driver.execute_script("document.querySelector(arguments[0]).click()", selector)

    def slide(self, name: str, value: float) -> None:
        self.driver.execute_script(
            "const range = document.querySelector(`#${arguments[0]} input[type=range]`); range.value = arguments[1];"
            "range.dispatchEvent(new Event('input', {bubbles: true}));"
            "range.dispatchEvent(new Event('change', {bubbles: true}));"
            "range.dispatchEvent(new PointerEvent('pointerup', {bubbles: true}))",
            name,
            value,
        )

    def choose(self, name: str, option: str) -> None:
        """An option of a dropdown, with the mouse; again where the page drew the dropdown anew meanwhile."""
        script = (
            "return [...document.querySelectorAll(`#${arguments[1]} ul[role=listbox] li`)].filter(e => "
            "e.innerText.replace('✓', '').trim() === arguments[0])[0]"
        )
        until = time.monotonic() + WAIT_SECONDS
        shown = "return document.querySelector(`#${arguments[0]} input`).value"
        while time.monotonic() < until:
            self.driver.find_element("css selector", f"#{name} input").click()
            found = self.wait(lambda: self.driver.execute_script(script, option, name))
            self.driver.execute_script(
                "arguments[0].dispatchEvent(new MouseEvent('mousedown', {bubbles: true, cancelable: true}))", found
            )
            for _ in range(25):
                if self.driver.execute_script(shown, name) == option:
                    return
                time.sleep(0.04)
        raise AssertionError(f"{name} never became {option}")

    def type(self, selector: str, text: str) -> None:
        field = self.driver.find_element("css selector", selector)
        field.send_keys("\ue009a\ue000\ue017", text)  # Control-A, Delete

    def tab(self, name: str) -> None:
        self.driver.find_element("xpath", f"//button[@role='tab' and normalize-space()='{name}']").click()

    def where(self) -> str:
        return self.text("#where .where")

    def column(self, number: int) -> list[str]:
        script = (
            "return [...document.querySelectorAll(`#list tbody td:nth-child(${arguments[0]})`)].map(e => e.innerText)"
        )
        return list(self.driver.execute_script(script, number))

    def scores(self) -> list[float]:
        return [float(score) for score in self.column(4) if score != "–"]

    def requests(self) -> list[str]:
        """What was asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


@pytest.fixture(scope="module")
def page(driver: Any, url: str) -> Page:
    look(driver, width=1280)
    page = Page(driver, url)
    page.open()
    return page


def test_documents_are_listed_sorted_filtered_and_turned(page: Page) -> None:
    assert page.where() == "1–15 of 58 documents"
    first = page.scores()
    assert len(first) == 15
    assert first == sorted(first, reverse=True)
    page.click("#page-on")
    page.wait(lambda: page.where() == "16–30 of 58 documents")
    assert max(page.scores()) <= min(first)
    page.click("#page-back")
    page.wait(lambda: page.scores() == first)
    page.click("#list button[data-sort=score]")
    page.wait(lambda: page.scores() and page.scores() == sorted(page.scores()) and page.scores() != first)
    page.click("#list button[data-sort=n_words]")
    page.wait(lambda: "↓" in page.text("#list button[data-sort=n_words]"))
    lengths = [int(words.replace(",", "")) for words in page.column(2)]
    assert lengths == sorted(lengths, reverse=True)
    page.choose("order", "place in the corpus")
    page.wait(lambda: page.column(1)[0].startswith("1000"))
    page.choose("order", "score")
    page.wait(lambda: page.scores() == first)
    page.click("#filters button")
    page.wait(lambda: page.all("#low input[type=range]"))
    page.slide("low", 0.25)
    page.wait(lambda: page.where() != "1–15 of 58 documents")
    assert page.scores()
    assert min(page.scores()) >= 0.25
    page.slide("high", 0.3)
    page.wait(lambda: page.scores() and max(page.scores()) <= 0.3)
    page.slide("low", 0)
    page.slide("high", 1)
    page.wait(lambda: page.where() == "1–15 of 58 documents")
    page.choose("status", "null")
    page.wait(lambda: page.where() == "1–4 of 4 documents")
    assert page.column(4) == ["–"] * 4
    page.choose("status", "any")
    page.wait(lambda: page.where() == "1–15 of 58 documents")
    page.choose("column", "source")
    page.choose("value", "s1")
    page.wait(lambda: page.where() == "1–13 of 13 documents")
    page.choose("column", "any")
    page.wait(lambda: page.where() == "1–15 of 58 documents")
    page.type("#search input, #search textarea", "house stood\n")
    page.wait(lambda: "1 of 2 work units" in page.where())
    assert page.column(1) == []
    page.wait(lambda: page.text("#search-on") == "Search on")
    page.click("#search-on")
    page.wait(lambda: "2 of 2 work units" in page.where())
    page.wait(lambda: page.text("#search-on") == "")
    assert all("house stood" in entry for entry in page.column(1))
    page.type("#search input, #search textarea", "\n")
    page.wait(lambda: page.where() == "1–15 of 58 documents")


def stored(output: Path) -> list[tuple[str, str, int, int]]:
    paths = [str(path) for path in (output / "verdicts").glob("*.parquet")] if (output / "verdicts").exists() else []
    return [(v.reviewer, v.verdict, v.start, v.end) for v in read_verdicts(paths)]


def test_flags_are_judged_by_keys_and_stored_at_once(page: Page, output: Path) -> None:
    page.choose("column", "file")
    page.choose("value", "plain.parquet")
    page.wait(lambda: page.where() == "1–15 of 40 documents")
    page.click("#list button[data-sort=n_flagged]")
    page.wait(lambda: "↓" in page.text("#list button[data-sort=n_flagged]"))
    page.click("#list tr[data-file]")
    marks = page.wait(lambda: page.all("#document mark"))
    assert len(marks) >= 4
    places = [(int(m.get_attribute("data-start")), int(m.get_attribute("data-end"))) for m in marks]
    row = int(page.all("#document article")[0].get_attribute("data-row"))
    text = pq.read_table(output.parent / "corpus" / "plain.parquet")["text"][row].as_py()
    assert [m.text for m in marks] == [" ".join(text[start:end].split()) for start, end in places]
    assert page.text("#document .what") == marks[0].text
    assert page.text("#document .panel .instead") == "instead: tea · <b>ten</b> · RLOgol"
    page.press("r", "w", "n")
    page.wait(lambda: len(stored(output)) == 3)
    expected = [("ana", word, *place) for word, place in zip(VERDICTS, places, strict=False)]
    assert stored(output) == expected
    assert [m.get_attribute("data-mine") for m in marks[:4]] == ["right", "wrong", "unsure", ""]
    assert page.text("#document .of") == f"4 / {len(marks)}"
    assert page.text("#document .progress") == f"3 of {len(marks)} judged by you"
    page.press("u")
    page.wait(lambda: len(stored(output)) == 4)
    assert stored(output)[-1] == ("ana", "withdrawn", *places[2])
    assert page.text("#document .of") == f"3 / {len(marks)}"
    page.wait(lambda: "taken back" in page.text("#said"))
    page.press("h", "h")
    page.click("#document button[data-verdict=wrong]")  # ana thinks better of it
    page.wait(lambda: len(stored(output)) == 5)
    assert stored(output)[-1] == ("ana", "wrong", *places[0])
    paths = [str(path) for path in (output / "verdicts").glob("*.parquet")]
    someone = replace(read_verdicts(paths)[-1], reviewer="bo <b>", verdict="right")
    write_verdict(str(output), someone)
    page.press(".")
    page.wait(lambda: page.all("#document article")[0].get_attribute("data-row") != str(row))
    page.press(",")
    page.wait(lambda: page.all("#document article")[0].get_attribute("data-row") == str(row))
    page.wait(lambda: [m.get_attribute("data-mine") for m in page.all("#document mark")[:3]] == ["wrong", "wrong", ""])
    page.all("#document mark")[0].click()
    assert page.text("#document .people") == "bo <b>: ✓ right"
    assert "people disagree" in page.text("#document .others")
    assert "⇄1" in page.column(1)[0]
    page.choose("verdicts", "disputed")
    page.wait(lambda: page.where() == "1–1 of 1 documents")
    page.choose("verdicts", "any")
    page.wait(lambda: page.where() == "1–15 of 40 documents")
    page.click("#candidates input")
    page.wait(lambda: len(page.all("#document mark.candidate")) > 0)
    assert len(page.all("#document mark.flag")) == len(marks)
    page.type("#reviewer input, #reviewer textarea", "cy\n")
    page.wait(lambda: [m.get_attribute("data-mine") for m in page.all("#document mark.flag")[:1]] == [""])
    page.all("#document mark.flag")[1].click()
    page.press("r")
    page.wait(lambda: len(stored(output)) == 7)
    assert stored(output)[-1] == ("cy", "right", *places[1])
    page.type("#reviewer input, #reviewer textarea", "rwn\n")
    page.wait(lambda: page.all("#document mark.flag")[1].get_attribute("data-mine") == "")  # nobody's yet
    assert len(stored(output)) == 7  # these were letters of a name
    page.choose("column", "any")
    page.wait(lambda: page.where() == "1–15 of 58 documents")


def test_texts_are_tried_and_the_threshold_acts_at_once(page: Page) -> None:
    page.tab("Try a text")
    page.wait(lambda: page.all("#model .model[data-state=ready]"))
    told = page.text("#model")
    for fact in ("tiny", "ready", "torch", "float32", "cpu", "digest"):
        assert fact in told
    page.click("#run")
    page.wait(lambda: "no text to score" in page.text("#result"))
    page.type("#sentence textarea", "The old house stood at the end of the road and nobody had lived there.")
    page.slide("threshold", 0.3)
    page.click("#run")
    words = page.wait(lambda: page.all("#result .w"))
    assert len(words) == 16
    p = [float(word.get_attribute("data-p")) for word in words]
    assert len(set(p)) > 10
    tips = [word.get_attribute("data-tip") for word in words]
    assert tips == [f"{value:.3f}" for value in p]
    colours = page.driver.execute_script(
        "return [...document.querySelectorAll('#result .w')].map(e => getComputedStyle(e).backgroundColor)"
    )
    assert len(set(colours)) > 10
    page.requests()
    for limit in (0.3, 0.8, 0.1, 0.5):
        page.slide("threshold", limit)
        on = [word.get_attribute("class") == "w on" for word in words]
        assert on == [value >= limit for value in p]
        assert page.text("#result .tally").startswith(f"{sum(on)} of 16 words at or above {limit:.2f}")
    assert page.requests() == []  # the network did not run again
    webdriver.ActionChains(page.driver).move_to_element(words[2]).perform()
    tip = "return getComputedStyle(document.querySelectorAll('#result .w')[2], '::after').content"
    page.wait(lambda: page.driver.execute_script(tip) == f'"{p[2]:.3f}"')
    page.click("#tokens button")
    page.wait(lambda: page.all("#tokens tbody tr"))
    pieces = page.driver.execute_script(
        "return [...document.querySelectorAll('#tokens tbody tr')].map(r => [...r.children].map(c => c.innerText))"
    )
    assert pieces[0][0] == "The"
    assert pieces[0][1] == "0–3"
    assert all(0 <= float(piece[2]) <= 1 for piece in pieces)
    examples = page.driver.find_elements("css selector", "#examples button")
    chinese = next(example for example in examples if "图书馆" in example.text)
    chinese.click()
    page.wait(lambda: "图书馆" in page.text("#result .words"))
    assert len(examples) >= 5
    page.tab("Look and judge")


def test_a_hostile_corpus_is_text(page: Page) -> None:
    page.choose("column", "file")
    page.choose("value", "<img src=x onerror=window.pwned=7>/hostile.parquet")
    page.wait(lambda: page.where() == f"1–15 of {len(HOSTILE)} documents")
    page.choose("order", "place in the corpus")
    page.wait(lambda: page.column(1)[0].startswith("1000"))
    page.click("#list tr[data-file]")
    page.wait(lambda: page.text("#document h3") == "1000")
    seen = [page.text("#document")]
    for number in range(1001, 1000 + len(HOSTILE)):
        page.press(".")
        page.wait(lambda number=number: page.text("#document h3") == str(number))
        seen.append(page.text("#document"))
        assert not page.driver.execute_script(
            f"return new RegExp({UNSEEN!r}).test(document.querySelector('#document').innerText)"
        )
    for at, quoted in (
        (0, "<script>window.pwned = 1"), (1, "<img src=x onerror='window.pwned = 2'>"), (2, "</style><style>body"),
        (3, "</p></article></main></body> the end <!-- never closed"),
        (4, "&lt;b&gt; &amp;amp; &#x27; &#0; &nbsp stay as they are"), (5, "{{ 7 * 7 }} {% raw %} ${7*7} templates"),
        (6, "RLO"), (7, "ZWSP"), (8, "ESC"), (10, "characters …]"), (17, "👩\u200d🔬 emoji stay whole"),
    ):  # fmt: skip
        assert quoted in " ".join(seen[at].split()), at
    assert page.driver.execute_script("return window.pwned") is None
    assert page.driver.title == "rtdscan review"
    foreign = "#list img, #document img, #document script, #document svg, #document style, [onerror], [onclick]"
    assert not page.all(foreign)
    assert not page.all("#list i:not(.dot):not(.sign)")
    shown = page.driver.execute_script(
        "return [...document.querySelectorAll('.documents, .document')].map(e => e.scrollWidth - e.clientWidth)"
    )
    assert max(shown) <= 1


def test_it_asks_no_other_host_and_reports_no_error(page: Page, url: str) -> None:
    """The whole session's log, with the page opened once more."""
    page.open()
    asked = page.requests()
    assert asked
    outside = [one for one in asked if not one.startswith((url, "data:", "blob:"))]
    assert outside == []
    wrong = [entry["message"] for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_it_fits_the_screen_and_can_be_read(page: Page, width: int, scheme: str) -> None:
    look(page.driver, width=width, scheme=scheme)
    page.open()
    page.click("#list tr[data-file]")
    page.wait(lambda: page.all("#document mark"))
    there, seen = page.driver.execute_script(
        "const root = document.scrollingElement; return [root.scrollWidth, root.clientWidth]"
    )
    assert there <= seen
    script = (
        "const s = getComputedStyle(document.querySelector(arguments[0])); return s[arguments[1]].match(/[0-9.]+/g)"
    )

    def colour(selector: str, of: str) -> list[float]:
        return [float(part) for part in page.driver.execute_script(script, selector, of)[:3]]

    paper, card = colour("body", "backgroundColor"), colour("#document .panel", "backgroundColor")
    assert (sum(paper) < 200) == (scheme == "dark")
    for selector in ("#head p", "#where .where", ".document h3", ".fact", "button[role=tab][aria-selected=true]"):
        assert contrast(colour(selector, "color"), paper) >= 4.5, selector
    panel = [f".panel {part}" for part in (".what", ".p", ".kind", *(f"[data-verdict={v}]" for v in VERDICTS))]
    for selector in (*panel, "#document .marked", "table.documents td", "table.documents th"):
        assert contrast(colour(selector, "color"), card) >= 4.5, selector


def test_who_logs_in_is_whose_verdict_it_is(driver: Any, output: Path, tmp_path: Path) -> None:
    """Also when the page is made to send another name."""
    look(driver, width=1280)
    (tmp_path / "users").write_text("dora:p w:d\n")
    command = [sys.executable, "-m", "rtdscan.pipeline", "review", str(output), "--port", "0", "--json"]
    given = ["--set", f"users.file={tmp_path / 'users'}", "--set", "load=false"]
    before = len(stored(output))
    with subprocess.Popen([*command, *given], stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        page = Page(driver, json.loads(served.stdout.readline())["url"])
        driver.get(page.url)
        fields = page.wait(lambda: page.all("input, textarea"))
        assert not page.all("#list")
        fields[0].send_keys("dora")
        fields[1].send_keys("p w:d\n")
        page.wait(lambda: page.all("#list tr[data-file]"))
        name = "#reviewer input, #reviewer textarea"
        page.wait(lambda: page.all(name)[0].get_property("value") == "dora")
        assert not page.all(name)[0].is_enabled()
        page.click("#list button[data-sort=n_flagged]")
        page.wait(lambda: "↓" in page.text("#list button[data-sort=n_flagged]"))
        page.click("#list tr[data-file]")
        page.wait(lambda: page.all("#document mark"))
        driver.execute_script(
            "const e = document.querySelector(arguments[0]); e.disabled = false; e.value = 'mallory';"
            "e.dispatchEvent(new Event('input', {bubbles: true}))",
            name,
        )
        page.press("w")
        page.wait(lambda: len(stored(output)) == before + 1)
        assert stored(output)[-1][:2] == ("dora", "wrong")
        served.terminate()
