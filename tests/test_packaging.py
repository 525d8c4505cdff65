"""What a source distribution holds, and what its metadata says."""

import shutil
import subprocess
import sys
import tarfile
from email.parser import HeaderParser
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.services import SETUPTOOLS

ROOT = Path(__file__).parent.parent
LARGE = ("*.parquet", "*.safetensors", "tokenizer.json")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Path -> content of a source distribution; made of a copy without the large files, in half a second."""
    if int(version("setuptools").partition(".")[0]) < SETUPTOOLS:
        pytest.skip(f"needs setuptools {SETUPTOOLS}")
    source = tmp_path_factory.mktemp("sdist") / "source"
    hidden = [path.name for path in ROOT.glob(".*") if path.name not in (".ci", ".images")]
    made = ("__pycache__", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*hidden, *made, *LARGE))
    build = [sys.executable, "setup.py", "-q", "sdist", "--formats=tar"]
    subprocess.run(build, cwd=source, check=True, capture_output=True, timeout=60)
    (archive,) = (source / "dist").iterdir()
    with tarfile.open(archive) as tar:
        files = [(one.name.partition("/")[2], tar.extractfile(one)) for one in tar if one.isfile()]
        return {name: file.read() for name, file in files if file}


def test_the_source_distribution_can_be_tested(sdist: dict[str, bytes]) -> None:
    """It held tests/test_*.py, but neither what they import nor configs/ and benchmarks/, which they read."""
    for folder in ("tests", "configs", "benchmarks", ".ci", ".images"):
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert len(files) >= 1
        assert {path.relative_to(ROOT).as_posix() for path in files} <= sdist.keys()
    assert {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "setup.py"} <= sdist.keys()
    assert not [name for name in sdist if name.endswith(".pyc")]


def test_the_licences_of_the_data_are_told(sdist: dict[str, bytes]) -> None:
    told = HeaderParser().parsestr(sdist["PKG-INFO"].decode())
    expression = told["License-Expression"].split(" AND ")
    assert expression[0] == "Apache-2.0"
    demo = [pq.read_table(path, columns=["license"]) for path in (ROOT / "transforms/data/demo").rglob("*.parquet")]
    parts = {part for table in demo for one in table["license"].to_pylist() for part in one.split("/")}
    words = (ROOT / "transforms" / "data" / "words" / "README.md").read_text(encoding="utf-8")
    named = {line.split("|")[-2].split()[0] for line in words.splitlines() if line.startswith("| `")}
    assert {"CC-BY-4.0", "CC-BY-SA-3.0"} < parts | named
    assert (parts | named) - {"Public-Domain", "CC0"} <= set(expression)
    notes = {path.relative_to(ROOT).as_posix() for path in (ROOT / "transforms" / "data").glob("*/README.md")}
    assert set(told.get_all("License-File")) == {"LICENSE", *notes}
