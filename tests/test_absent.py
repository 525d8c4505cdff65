"""What a worker process does not load."""

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from corpora import write_corpus

from rtdscan.transforms.absent import keep_out

SERVE = """
import sys
from pathlib import Path
from rtdscan.pipeline.config import ScanConfig
from rtdscan.pipeline.launchers import local
from rtdscan.pipeline.scanning import prepare
from rtdscan.transforms.records import Done
corpus, output, model, engine = sys.argv[1:]
config = ScanConfig(model=model, engine=engine, precision="float32", unit={"text_mb": 1.0})
prepared = prepare([corpus], output, config)
HEAVY = ("torch", "transformers", "scipy", "pandas", "apache_beam", "pymongo", "bson", "openvino.tools.ovc")
print("launcher", [name for name in HEAVY if name in sys.modules])
class Pipe:
    told = [prepared.job, list(prepared.plan.units)]
    heard = []
    def recv(self):
        if not self.told:
            raise EOFError
        return self.told.pop(0)
    def send(self, message):
        self.heard.append(message)
try:
    local._serve(Pipe())
except EOFError:
    pass
print("done", sorted(done.outcome for done in Pipe.heard if isinstance(done, Done)))
print("worker", [name for name in HEAVY if sys.modules.get(name) is not None])
"""


@pytest.mark.parametrize(
    ("engine", "loaded"),
    [
        ("openvino", ["apache_beam"]),
        pytest.param("torch", ["torch", "scipy", "pandas", "apache_beam"], marks=pytest.mark.slow),
    ],
)
def test_a_worker_with_openvino_loads_no_torch_and_the_launcher_neither(
    engine: str, loaded: list[str], tmp_path: Path, tiny_bundle: Path
) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    command = [sys.executable, "-c", SERVE, str(corpus), str(tmp_path / "out"), str(tiny_bundle), engine]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    launcher, units, worker = done.stdout.strip().splitlines()
    assert launcher == "launcher []"
    assert units == "done ['scored', 'scored', 'scored', 'scored']"
    assert worker == f"worker {loaded}"


def test_what_is_kept_out_looks_as_if_it_were_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    assert importlib.util.find_spec("wave") is not None
    keep_out("wave", "sndhdr", "xml.sax")
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with pytest.raises(ImportError, match="No module named 'wave'"):
        importlib.import_module("wave")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("wave.part")
    monkeypatch.delitem(sys.modules, "xml.sax", raising=False)
    with pytest.raises(ImportError, match=r"No module named 'xml\.sax'"):
        importlib.import_module("xml.sax")
    assert importlib.import_module("xml.dom") is not None
    assert importlib.import_module("colorsys") is not None
