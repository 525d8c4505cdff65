"""The README is true: its tables come from the code, and its commands run.

RTDSCAN_UPDATE_README=1 writes the tables anew.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pyarrow as pa
import pytest

from rtdscan.pipeline.clean import CleanConfig
from rtdscan.pipeline.cleaning.summary import CleanSummary
from rtdscan.pipeline.config import ScanConfig, load_config, reference_markdown
from rtdscan.pipeline.contexts import SpanInContext
from rtdscan.pipeline.summary import Summary
from rtdscan.transforms.gates import ALL_METRICS
from rtdscan.transforms.records import attribute_schema
from rtdscan.transforms.settings import OutputSettings
from rtdscan.transforms.tally import Tally, Worst

README = Path(__file__).parent.parent / "README.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALLS = re.compile(r"-m venv|pip install")


def blocks(language: str) -> list[str]:
    return [body for name, body in FENCE.findall(README.read_text(encoding="utf-8")) if name == language]


def ended(command: str) -> str:
    """What serves until Ctrl-C gets one, and a port that is free."""
    return f"timeout --preserve-status -s INT 15 {command} --port 0" if "rtdscan review" in command else command


def attributes_markdown() -> str:
    """The columns of a shard, from the schema's own descriptions."""
    schema = attribute_schema(OutputSettings(words=True, tokens=True), dims=384, id_type=pa.string())
    rows = []
    for field in schema:
        type_ = (
            "as in the input" if field.name == "id" else str(field.type).replace("element: ", "").replace("item: ", "")
        )
        cells = (f"`{field.name}`", type_, field.metadata[b"description"].decode())
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return "".join(rows)


TABLES = {
    "attributes": attributes_markdown,
    "options": lambda: reference_markdown(ScanConfig),
    "clean-options": lambda: reference_markdown(CleanConfig),
}


def test_keys_of_the_json_are_as_told() -> None:
    """Programs rest on them: one that goes, or comes without being told, is a fault."""
    summary = Summary(
        output="scanned",
        finished=True,
        tally=replace(Tally.zero(), worst=(Worst(0.5, "a.parquet", 3),)),
        outcomes={},
        bad=(("b.parquet", "damaged"),),
        seconds=1.0,
        tokens_scored=1,
        model="m",
        engine="torch",
        precision="float32",
        workers=1,
        threads=1,
        precision_note=None,
        warnings=(),
        spans=(SpanInContext("a.parquet", 3, 0.9, before="It is ", words="teh", after=" end."),),
    )
    told = summary.to_json()
    text = README.read_text(encoding="utf-8")
    table = text.split("| keys of `scan --json` | |\n|---|---|\n")[1].split("\n\n")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines()]
    assert {key for keys, _ in rows for key in re.findall(r"`(\w+)`", keys)} == set(told)
    of = {keys.strip(" `"): set(re.findall(r"`(\w+)`", meaning)) for keys, meaning in rows}
    assert of["worst"] == set(told["worst"][0])
    assert of["bad"] == set(told["bad"][0])
    cleaned = text.split("`clean --json` and `clean.json`'s `summary` have ")[1].split(". New keys")[0]
    assert set(re.findall(r"`(\w+)`", cleaned)) == {field.name for field in fields(CleanSummary)}


@pytest.mark.parametrize("name", TABLES)
def test_tables_come_from_the_code(name: str) -> None:
    text = README.read_text(encoding="utf-8")
    found = re.search(rf"<!-- {name} -->\n(.*?)(?=\n\n|\Z)", text, re.DOTALL)
    assert found, f"README has no table {name}"
    expected = TABLES[name]().strip()
    if os.environ.get("RTDSCAN_UPDATE_README"):
        README.write_text(text[: found.start(1)] + expected + text[found.end(1) :], encoding="utf-8")
        return
    assert found[1].strip() == expected, "run RTDSCAN_UPDATE_README=1 pytest tests/test_readme.py"


def test_every_link_to_a_file_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_the_list_of_contents_is_that_of_the_headings() -> None:
    text = README.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[0] == "Two commands"
    assert re.findall(r"\[([^\]]+)\]\(#([^)]+)\)", text) == [
        (heading, heading.lower().replace(" ", "-")) for heading in headings[1:]
    ]


def test_the_metrics_of_gates_are_listed() -> None:
    table = re.search(r"^A gate is (.*?)^`gate` and", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`([a-z_.]+)`", table[1])) - {"metric", "by"} == set(ALL_METRICS)


def test_the_two_commands_are_the_ones_that_the_check_runs() -> None:
    """Installing is .ci/run's part; what it installs and runs is what the README says."""
    install, tests = (block.strip() for block in blocks("sh")[:2])
    assert install.endswith(".venv/bin/rtdscan demo")
    check = (README.parent / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r'"(\.\[[^"]*\])"', tests)[1] in check
    command = "python" + tests.partition("/python")[2]
    assert command.startswith("python -m pytest -n ")
    assert command in check.replace('"', "")


def test_every_config_loads(tmp_path: Path) -> None:
    for number, block in enumerate(blocks("yaml")):
        path = tmp_path / f"block{number}.yaml"
        path.write_text(block)
        load_config(ScanConfig, files=[path])
    assert blocks("yaml")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_command_runs(tmp_path: Path) -> None:
    """All shell blocks in order in one shell, then the Python ones, as someone who copies them would."""
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name in ("python", "rtdscan"):
        program = f'exec {sys.executable} {"-m rtdscan.pipeline" if name == "rtdscan" else ""} "$@"'
        (binaries / name).write_text(f"#!/bin/sh\n{program}\n")
        (binaries / name).chmod(0o755)
    (tmp_path / "configs").symlink_to(README.parent / "configs")
    commands = []
    for block in blocks("sh"):
        for line in block.splitlines():
            # The parts that install are what .ci/run does; what follows them is run here.
            parts = [part for part in line.split(" && ") if not INSTALLS.search(part) and "-m pytest" not in part]
            commands.append(" && ".join(ended(part) for part in parts))
    script = tmp_path / "readme.sh"
    script.write_text("set -eu\n" + "\n".join(commands) + "\n")
    done = subprocess.run(["bash", str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "worst spans" in done.stdout
    assert "http://127.0.0.1:" in done.stdout, "the review page was served"
    assert (tmp_path / "scanned" / "run.json").exists()
    for cleaned in ("cleaned", "masked"):
        told = json.loads((tmp_path / cleaned / "clean.json").read_text())["summary"]
        assert 0 < told["kept"] == told["rows"] - told["rejected"]
    queries = "import duckdb, sys\nfor query in sys.argv[1:]:\n    print(duckdb.sql(query))"
    done = subprocess.run(
        [sys.executable, "-c", queries, *blocks("sql")], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "suggestions" in done.stdout
    for number, block in enumerate(blocks("python")):
        path = tmp_path / f"block{number}.py"
        path.write_text(block)
        done = subprocess.run([sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "teh" in done.stdout
