"""Random networks of a stated shape, with the vocabulary of the bundled model."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from benchmarks.measure import ROOT
from rtdscan.transforms.bundle import DEFAULT

sys.path.insert(0, str(ROOT / "tests"))

from tiny import tiny_config, tiny_weights

SHAPES: dict[str, dict[str, Any]] = {
    # What Google's ELECTRA-Small has.
    "electra-small": {
        "embedding_size": 128,
        "hidden_size": 256,
        "num_hidden_layers": 12,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
        "max_position_embeddings": 512,
    },
    # Costs next to nothing: what is left is all that is not the network.
    "tiny": {"hidden_size": 16, "embedding_size": 16, "num_hidden_layers": 1, "max_position_embeddings": 512},
}

CALIBRATION = {"electra-small": {"slope": 0.5, "intercept": -7.6}, "tiny": {"slope": 2.7, "intercept": -3.8}}
"""Random weights would make most words candidates; with this some percent of English are, as with a trained model
(tiny: and a few in a thousand flagged)."""


def make_model(shape: str, path: Path) -> Path:
    """Write a bundle with random weights.

    Args:
        shape: One of SHAPES.
        path: Directory to make.

    Returns:
        The directory.
    """
    path.mkdir(parents=True)
    tokenizers = [file for file in DEFAULT.iterdir() if file.name.startswith("tokenizer")]
    for file in tokenizers:
        shutil.copy(file, path)
    vocabulary = json.loads((DEFAULT / "config.json").read_text())["vocab_size"]
    config = tiny_config(vocab_size=vocabulary, **SHAPES[shape])
    (path / "config.json").write_text(json.dumps(config))
    save_file(tiny_weights(config), path / "model.safetensors")
    card = {"format": 1, "name": f"random {shape}", "window": 128, "calibration": CALIBRATION[shape]}
    (path / "bundle.json").write_text(json.dumps(card))
    return path
