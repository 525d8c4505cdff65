"""The report of a hostile corpus in headless Chromium: it shows as text, in light and dark, on a phone and on paper."""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import options, run_here

from rtdscan.pipeline.__main__ import main

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver on the PATH"),
    pytest.mark.slow,
]

HOSTILE = [
    "<script>window.pwned = 1; document.title = 'pwned'</script> a house",
    "<img src=x onerror='window.pwned = 2'> and <svg onload=alert(1)> a road",
    "</style><style>body { display: none }</style> the garden",
    "</p></article></main></body> the end <!-- never closed",
    "&lt;b&gt; &amp;amp; &#x27; &#0; &nbsp stay as they are",
    "{{ 7 * 7 }} {% raw %} ${7*7} templates",
    "abc \u202etxet desrever\u202c def \u2066isolate \u2067 marks",
    "zero\u200bwidth\u200b\u200b and\ufeff bom \u2060 joiner\u00ad",
    "\x1b[31mred\x1b[0m \x07bell \x9b2J c1",
    "line\u2028separator\u2029paragraph\x85next",
    "x" * 10_000 + " one word",
    "長" * 10_000,
    "z" + "\u0301\u0300\u0302" * 60 + "algo climbs",
    "שלום עולם <b>bold</b> and back",
    "\u200b\u200c\u200d\u2060" * 3000 + " nothing to see",
    "' onmouseover='window.pwned = 3' \" onclick=\"window.pwned = 4\" quotes",
    "javascript:window.pwned=5 https://example.invalid/beacon.png",
    "📄👩\u200d🔬 emoji stay whole 🏳\ufe0f\u200d🌈",
]
UNSEEN = r"[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Path:
    """The report, all words flagged so that all texts are quoted; names and values as hostile as the texts."""
    folder = tmp_path_factory.mktemp("hostile")
    corpus = folder / "cor<b>pus \u202eknil"
    corpus.mkdir()
    n = len(HOSTILE)
    rows = {
        "key": [f'"><script>window.pwned = 6</script>\u202e{at}' for at in range(n)],
        "source": [f"<i>{'v' * 300}</i>\u202e{at % 3}" for at in range(n)],
        "text": HOSTILE,
    }
    pq.write_table(pa.table(rows), corpus / "<img src=x onerror=window.pwned=7>.parquet")
    sets = ["thresholds.flag=0", "thresholds.floor=0", "report.by=[source]", "input.text=text"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtdscan.pipeline.launchers.local.run_local", run_here)
        assert (
            main(["scan", str(corpus), str(folder / "out"), *options(tiny_bundle, "report.enabled=true", *sets)]) == 0
        )
    return folder / "out" / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, page: Path) -> Iterator[Any]:
    chosen = webdriver.ChromeOptions()
    chosen.binary_location = str(CHROMIUM)
    quiet = ["background-networking", "component-update", "sync", "default-apps", "extensions", "gpu", "dev-shm-usage"]
    flags = ["headless", "no-sandbox", "no-first-run", *(f"disable-{name}" for name in quiet)]
    for flag in (*flags, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        chosen.add_argument(f"--{flag}")
    chosen.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=chosen, service=webdriver.ChromeService(str(DRIVER)))
    driver.set_page_load_timeout(60)
    driver.get(page.as_uri())
    yield driver
    driver.quit()


def look(browser: Any, *, width: int, scheme: str = "light") -> None:
    """Set the size of the screen and the colour scheme."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")


def test_it_is_small(page: Path) -> None:
    assert page.stat().st_size < 2_000_000


def test_nothing_runs_and_nothing_is_fetched(browser: Any) -> None:
    assert browser.execute_script("return window.pwned") is None
    assert browser.title.endswith("rtdscan report")
    elements = "script, img, iframe, object, link, main b > b, svg[onload], [onerror], [onclick], [onmouseover]"
    assert browser.execute_script(f"return document.querySelectorAll({elements!r}).length") == 0
    assert browser.execute_script("return document.querySelectorAll('style').length") == 1
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.execute_script("return [...document.links].every(a => a.getAttribute('href')[0] == '#')")
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_markup_shows_as_text(browser: Any) -> None:
    look(browser, width=1200)
    text = browser.execute_script("return document.body.innerText")
    for shown in (
        "<script>window.pwned = 1; document.title = 'pwned'</script>",
        "<img src=x onerror='window.pwned = 2'>",
        "</style><style>body { display: none }</style>",
        "</p></article></main></body>",
        "&lt;b&gt; &amp;amp; &#x27; &#0; &nbsp stay",
        "{{ 7 * 7 }} {% raw %} ${7*7}",
        "<img src=x onerror=window.pwned=7>.parquet",
        '"><script>window.pwned = 6</script>',
    ):
        assert shown in text


def test_what_reorders_or_hides_is_seen(browser: Any) -> None:
    look(browser, width=1200)
    text = browser.execute_script("return document.body.innerText")
    for sign in ("RLO", "LRI", "ZWSP", "BOM", "ESC", "BEL", "U+009B", "LS", "PS", "NEL", "SHY", "marks"):
        assert sign in text, sign
    assert not browser.execute_script(f"return new RegExp({UNSEEN!r}).test(document.body.textContent)")
    assert not browser.execute_script("return /[\\u202a-\\u202e\\u2066-\\u2069]/.test(document.title)")
    assert "emoji stay whole" in text
    assert "👩\u200d🔬" in text
    shown = browser.execute_script("return [...document.querySelectorAll('mark')].map(m => m.textContent.length)")
    assert max(shown) < 1000
    assert "characters …]" in text


@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_it_fits_the_screen(browser: Any, width: int) -> None:
    look(browser, width=width)
    there, seen = browser.execute_script(
        "const root = document.scrollingElement; return [root.scrollWidth, root.clientWidth]"
    )
    assert there == seen
    assert width - 20 <= seen <= width  # a scroll bar may stand beside it
    beyond = browser.execute_script(
        "return [...document.querySelectorAll('h1, h2, h3, p, td, .card, .tile')]"
        ".filter(e => !e.closest('.scroll') && e.getBoundingClientRect().right > innerWidth + 1)"
        ".map(e => e.outerHTML.slice(0, 99))"
    )
    assert beyond == []


def contrast(a: list[float], b: list[float]) -> float:
    """WCAG 2 contrast of two sRGB colours in 0 to 255."""

    def luminance(colour: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read(browser: Any, scheme: str) -> None:
    look(browser, width=1200, scheme=scheme)
    script = (
        "const s = getComputedStyle(document.querySelector(arguments[0])); return s[arguments[1]].match(/[0-9.]+/g)"
    )

    def colour(selector: str, of: str) -> list[float]:
        return [float(part) for part in browser.execute_script(script, selector, of)[:3]]

    paper, card = colour("body", "backgroundColor"), colour(".card", "backgroundColor")
    assert (sum(paper) < 200) == (scheme == "dark")
    for background in (paper, card):
        for selector, of in (("body", "color"), (".soft", "color"), ("summary", "color"), ("svg text", "fill")):
            assert contrast(colour(selector, of), background) >= 4.5, (selector, scheme)
    for selector in (".c-keep.dot", ".c-drop.dot"):
        assert contrast(colour(selector, "backgroundColor"), card) >= 3


def test_it_prints(browser: Any) -> None:
    look(browser, width=1200, scheme="dark")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert browser.execute_script("return getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
