"""The README's pictures, made anew: `python .images/make.py` in the repository's root, with extras test and review.

demo.svg    what `rtdscan demo` prints
report.png  the report of that scan
review.png  the review page of that scan, three flags of a document judged
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from selenium import webdriver

import rtdscan.transforms

HERE = Path(__file__).parent
DEMO = Path(rtdscan.transforms.__path__[0]) / "data" / "demo"
COLUMNS = 165
JUDGED = "wikinews:data/wikinews_2019.csv#105.0@0"
"""A document with a handful of planted errors."""


def rtdscan_(*words: str, folder: Path, **environment: str) -> str:
    """Run a command in a folder; what it prints."""
    command = [sys.executable, "-m", "rtdscan.pipeline", *words]
    env = os.environ | environment
    return subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


def draw_demo(folder: Path) -> None:
    """demo.svg."""
    told = rtdscan_("demo", folder=folder, COLUMNS=str(COLUMNS), FORCE_COLOR="1")
    console = Console(record=True, width=COLUMNS, file=StringIO())
    console.print(Text.from_ansi(told.rstrip("\n")))
    console.save_svg(str(HERE / "demo.svg"), title="rtdscan demo")


def photograph(folder: Path) -> None:
    """report.png and review.png of a scan that carries the documents' sources."""
    shutil.copytree(DEMO, folder / "demo", ignore=shutil.ignore_patterns("README.md"))
    rtdscan_("scan", "demo", "scanned", "--set", "input.id=id", "--set", "output.columns=[source]", folder=folder)
    options = webdriver.ChromeOptions()
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.binary_location = str(shutil.which("chromium"))
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(shutil.which("chromedriver"))))
    try:
        resize(browser, 1100, 1250)
        browser.get((folder / "scanned" / "report.html").as_uri())
        time.sleep(1)
        browser.save_screenshot(str(HERE / "report.png"))
        command = [sys.executable, "-m", "rtdscan.pipeline", "review", "scanned", "--port", "0", "--json"]
        with subprocess.Popen(
            [*command, "--set", "reviewer=ana"], cwd=folder, stdout=subprocess.PIPE, text=True
        ) as page:
            assert page.stdout is not None
            try:
                resize(browser, 1280, 860)
                browser.get(json.loads(page.stdout.readline())["url"])
                judge(browser)
                browser.save_screenshot(str(HERE / "review.png"))
            finally:
                page.terminate()
    finally:
        browser.quit()


def resize(browser: Any, width: int, height: int) -> None:
    """Of the page, without the window's frame."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def judge(browser: Any) -> None:
    """Open a document and judge three flags; the first is a name."""

    def wait(found: Callable[[], Any]) -> Any:
        until = time.monotonic() + 30
        while not (there := found()):
            assert time.monotonic() < until, "the page does not show it"
            time.sleep(0.1)
        return there

    def rows() -> list[Any]:
        return [row for row in browser.find_elements("css selector", "#list tr[data-file]") if JUDGED in row.text]

    wait(rows)[0].click()
    wait(lambda: JUDGED in browser.find_element("css selector", "article.document").text)
    for judged, key in enumerate("wrr", start=1):
        browser.find_element("tag name", "body").send_keys(key)
        wait(lambda judged=judged: f"{judged} of" in browser.find_element("tag name", "body").text)
    time.sleep(6)  # until what was told of the last one has gone


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="rtdscan-") as folder:
        draw_demo(Path(folder))
        photograph(Path(folder))
