"""Where weights come from: nothing, an ELECTRA model, a BERT-shaped encoder. Plain tensors by ELECTRA's names."""

import importlib.util
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from rtdscan.pipeline.training.settings import ShapeSettings
from rtdscan.pipeline.training.vocabulary import SPECIAL, bert_tokenizer
from rtdscan.transforms.bundle import load_bundle
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.lexicon import LEXICON_FILE

SCRATCH = "scratch"
PACKAGE = "package:"

_SHAPE = {
    "vocab_size": 30_522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
"""Fields of config.json that BERT and ELECTRA share, with BERT's defaults."""


@dataclass(frozen=True, slots=True)
class Start:
    """A beginning.

    Attributes:
        kind: "scratch", "electra" or "bert".
        config: Fields of transformers' ElectraConfig.
        weights: Tensors by ELECTRA's names (electra.…, discriminator_predictions.…), float32; empty from scratch.
        tokenizer: Its tokenizer; None from scratch, where one is trained.
        head: Tensors of a masked language model's head, by ELECTRA's names, where the encoder comes with one.
        path: The directory, None from scratch.
    """

    kind: str
    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    tokenizer: Tokenizer | None
    head: dict[str, torch.Tensor]
    path: Path | None

    @property
    def lexicon(self) -> Path | None:
        """The file of its lexicon, where it is a bundle with one."""
        found = None if self.path is None else self.path / LEXICON_FILE
        return found if found and found.is_file() else None


def find_start(spec: str, *, shape: ShapeSettings, average: tuple[str, ...] = ()) -> Start:
    """Load what training starts from.

    Args:
        spec: `start` as configured.
        shape: Of the network, from scratch.
        average: More ELECTRA models, whose weights are averaged with the first's.

    Raises:
        UserError: There is no such model, or it is of no kind that is known.
    """
    if spec == SCRATCH:
        if average:
            raise UserError("average: needs an ELECTRA model as `start`; training from scratch has nothing to average")
        return _from_scratch(shape)
    path = _locate(spec)
    config = _config(path)
    kind = config.get("model_type")
    if kind == "bert":
        start = _from_bert(path, config)
    elif kind == "electra":
        start = _from_electra(path, config)
    else:
        raise UserError(f"start {spec}: model_type is {kind!r} in {path / 'config.json'}; expected electra or bert")
    if average and start.kind != "electra":
        raise UserError(f"average: {spec} is a {start.kind} encoder; only ELECTRA discriminators can be averaged")
    paths = [_locate(other) for other in average]
    return _averaged(start, [_from_electra(other, _config(other)) for other in paths], average)


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a directory's model.safetensors, as float32."""
    file = path / "model.safetensors"
    if not file.is_file():
        raise UserError(f"model {path}: has no model.safetensors; only safetensors is read, never pickle")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in load_file(file).items()}


def electra_names(tensors: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A BERT's tensors by ELECTRA's names: the encoder, and the head of a masked language model, where it has one."""
    weights, head = {}, {}
    renamed = {
        "cls.predictions.transform.dense.": "generator_predictions.dense.",
        "cls.predictions.transform.LayerNorm.": "generator_predictions.LayerNorm.",
    }
    for name, tensor in tensors.items():
        # Old checkpoints call a norm's parameters gamma and beta.
        new = name.removeprefix("bert.").replace("LayerNorm.gamma", "LayerNorm.weight")
        new = new.replace("LayerNorm.beta", "LayerNorm.bias")
        if new.startswith(("embeddings.", "encoder.")) and not new.endswith(("position_ids", "token_type_ids")):
            weights[f"electra.{new}"] = tensor
        for old, given in renamed.items():
            if new.startswith(old):
                head[new.replace(old, given)] = tensor
        if new == "cls.predictions.bias":
            head["generator_lm_head.bias"] = tensor
    return weights, head


def _from_scratch(shape: ShapeSettings) -> Start:
    if shape.dims % shape.heads:
        raise UserError(f"shape.dims is {shape.dims}; expected a multiple of shape.heads, which is {shape.heads}")
    config = {
        **_SHAPE,
        "hidden_size": shape.dims,
        "embedding_size": shape.embedding,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
        "max_position_embeddings": shape.positions,
    }
    return Start(SCRATCH, config, {}, None, {}, None)


def _from_bert(path: Path, config: dict[str, Any]) -> Start:
    if (config.get("position_embedding_type") or "absolute") != "absolute":
        raise UserError(f"start {path}: position_embedding_type is {config['position_embedding_type']!r}, not absolute")
    weights, head = electra_names(load_tensors(path))
    if "electra.embeddings.word_embeddings.weight" not in weights:
        raise UserError(f"start {path}: model.safetensors holds no BERT encoder (embeddings.word_embeddings.weight)")
    fields = {key: config.get(key, default) for key, default in _SHAPE.items()}
    fields["embedding_size"] = fields["hidden_size"]
    # The row of token types that a scan uses is the first; ELECTRA keeps both.
    return Start("bert", fields, weights, _tokenizer(path), head, path)


def _from_electra(path: Path, config: dict[str, Any]) -> Start:
    bundle = load_bundle(str(path))
    shape = bundle.config
    fields = {
        "vocab_size": shape.vocab,
        "embedding_size": shape.embedding,
        "hidden_size": shape.dims,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.types,
        "hidden_act": shape.activation,
        "layer_norm_eps": shape.epsilon,
    }
    prefixed = {}
    for name, tensor in load_tensors(path).items():
        kept = name.startswith(("electra.", "discriminator_predictions."))
        prefixed[name if kept else f"electra.{name}"] = tensor
    return Start("electra", fields, prefixed, bundle.tokenizer(), {}, path)


def _tokenizer(path: Path) -> Tokenizer:
    """Of a directory that is no bundle: tokenizer.json, or the vocabulary of BERT's own code."""
    if (path / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
    elif (path / "vocab.txt").is_file():
        told = path / "tokenizer_config.json"
        settings = json.loads(told.read_text(encoding="utf-8")) if told.is_file() else {}
        pieces = (path / "vocab.txt").read_text(encoding="utf-8").splitlines()
        tokenizer = bert_tokenizer(pieces, lower_case=settings.get("do_lower_case", True))
    else:
        raise UserError(f"start {path}: has no tokenizer; expected tokenizer.json or vocab.txt")
    missing = [token for token in SPECIAL if tokenizer.token_to_id(token) is None]
    if missing:
        raise UserError(f"start {path}: the tokenizer has no {', '.join(missing)}; expected that of a BERT")
    return tokenizer


def _averaged(start: Start, others: list[Start], names: tuple[str, ...]) -> Start:
    if not others:
        return start
    total = {name: tensor.double() for name, tensor in start.weights.items()}
    for name, other in zip(names, others, strict=True):
        if other.config != start.config or other.weights.keys() != total.keys():
            raise UserError(f"average: {name} is of another shape than {start.path}")
        if _vocabulary(other) != _vocabulary(start):
            raise UserError(f"average: {name} has another vocabulary than {start.path}")
        for key, tensor in other.weights.items():
            total[key] += tensor
    mean = {key: (tensor / (len(others) + 1)).float() for key, tensor in total.items()}
    return replace(start, weights=mean)


def _vocabulary(start: Start) -> dict[str, int]:
    vocabulary: dict[str, int] = start.tokenizer.get_vocab() if start.tokenizer else {}
    return vocabulary


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    if not file.is_file():
        raise UserError(f"start {path}: has no config.json; expected an ELECTRA or BERT directory with safetensors")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: is not JSON ({error})") from error
    return config if isinstance(config, dict) else {}


def _locate(spec: str) -> Path:
    """The directory that `start` names; hub names and URLs go through the bundle loader."""
    if spec.startswith(PACKAGE):
        return _in_package(spec.removeprefix(PACKAGE))
    directory = Path(spec).expanduser()
    return directory if directory.is_dir() else load_bundle(spec).path


def _in_package(name: str) -> Path:
    """The folder with a model inside an installed Python package; none of its code is run."""
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    for root in found.submodule_search_locations or () if found else ():
        for file in sorted(Path(root).rglob("config.json")):
            if (file.parent / "model.safetensors").is_file():
                return file.parent
    state = "holds no config.json beside a model.safetensors" if found else "is not installed"
    raise UserError(f"start {PACKAGE}{name}: the Python package {name} {state}; pip install it, or give a directory")
