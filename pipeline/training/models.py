"""Generator and discriminator, tied as in ELECTRA; and the frozen teacher of embeddings.

Tied means shared: the generator's embedding module *is* the discriminator's (pieces, positions, types and their norm,
as in ELECTRA's code), and its output layer's weight is the piece embeddings'. Both losses train them.
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining, ElectraModel

from rtdscan.pipeline.training.examples import padded
from rtdscan.pipeline.training.settings import GeneratorSettings, PretrainConfig
from rtdscan.pipeline.training.start import Start, electra_names, find_start, load_tensors
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.generator import FOLDER, complete

START, OWN = "start", "own"
"""Values of generator.model that are no path."""


class LowRankLinear(nn.Linear):
    """A linear layer whose weight stays, plus a change of low rank that is learned: W + B A (LoRA, Hu et al. 2021)."""

    def __init__(self, layer: nn.Linear, rank: int, *, toward: Tensor | None = None) -> None:
        """Take over a layer's weight.

        Args:
            layer: W.
            rank: Of the change.
            toward: The change begins as the best of its rank from W to this weight, with the scale of its singular
                values in A and B alike; None: B is 0, so at first nothing is changed.
        """
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.lora_A = nn.Parameter(torch.empty(rank, layer.in_features))
        self.lora_B = nn.Parameter(torch.zeros(layer.out_features, rank))
        nn.init.normal_(self.lora_A, std=layer.in_features**-0.5)
        if toward is not None:
            left, size, right = torch.linalg.svd(toward - layer.weight.detach(), full_matrices=False)
            root, most = size.sqrt(), min(rank, len(size))
            with torch.no_grad():
                self.lora_A[:most] = root[:most, None] * right[:most]
                self.lora_B[:, :most] = left[:, :most] * root[:most]

    def forward(self, input: Tensor) -> Tensor:
        """As the layer, with the change."""
        return super().forward(input) + F.linear(F.linear(input, self.lora_A), self.lora_B)


class Networks(nn.Module):
    """What is trained: `discriminator` and `generator`; and `teacher`, which is not, and not part of its state."""

    def __init__(self, discriminator: Any, generator: Any, *, tied: bool, frozen: bool) -> None:
        """Hold both; a frozen generator learns nothing."""
        super().__init__()
        self.discriminator: Any = discriminator
        self.generator: Any = generator
        self.tied = tied
        self.frozen = frozen
        if frozen:
            generator.requires_grad_(False)

    def train(self, mode: bool = True) -> "Networks":
        """As any module; a frozen generator never drops out."""
        super().train(mode)
        self.generator.train(mode and not self.frozen)
        return self

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters that are learned, each once, by name."""
        return ((name, p) for name, p in self.named_parameters() if p.requires_grad)


def build(config: PretrainConfig, start: Start, *, vocab: int, attention: str) -> Networks:
    """Make both networks; new weights are drawn from torch's generator, so seed it before.

    Args:
        config: The run's options.
        start: What to begin with.
        vocab: V, pieces of the tokenizer.
        attention: "eager" (on a CPU faster in training) or "sdpa".
    """
    shape = {**start.config, "vocab_size": max(vocab, start.config["vocab_size"]) if start.weights else vocab}
    _check_width(config, shape["max_position_embeddings"], of="the network")
    discriminator = ElectraForPreTraining(_electra(shape, dropout=config.dropout, attention=attention))
    _load(discriminator, start.weights, what=f"start {config.start}", may_miss="discriminator_predictions.")
    chosen = config.generator
    if chosen.rank:
        return _low_rank(config, start, discriminator, attention=attention)
    if chosen.frozen and chosen.model is None:
        raise UserError("generator.frozen: there is no generator.model to freeze; a new one has to be trained")
    if chosen.model is None:
        narrow = _narrow(shape, chosen)
        generator = ElectraForMaskedLM(_electra(narrow, dropout=config.dropout, attention=attention))
        tie(generator, discriminator)
        _continue(generator, start.path)
        return Networks(discriminator, generator, tied=True, frozen=False)
    generator = _made_before(chosen.model, start, dropout=config.dropout, attention=attention)
    if generator.config.vocab_size != shape["vocab_size"]:
        raise UserError(
            f"generator.model {chosen.model}: has {generator.config.vocab_size} pieces, the discriminator "
            f"{shape['vocab_size']}; they need the same vocabulary"
        )
    _check_width(config, generator.config.max_position_embeddings, of=f"generator.model {chosen.model}")
    return Networks(discriminator, generator, tied=False, frozen=chosen.frozen)


def tie(generator: Any, discriminator: Any) -> None:
    """Let the generator use the discriminator's embeddings, at its input and its output."""
    embeddings = discriminator.electra.embeddings
    generator.electra.embeddings = embeddings
    generator.generator_lm_head.weight = embeddings.word_embeddings.weight


def load_generator(path: Path, *, dropout: float = 0.0, attention: str = "eager") -> Any:
    """A generator as `export` wrote it; tied embeddings are taken from the discriminator in the folder above.

    Args:
        path: A `generator/` inside a bundle, or a directory of its own (ELECTRA's or BERT's masked language model).
        dropout: While training.
        attention: As in `build`.
    """
    config = _read_config(path)
    weights = load_tensors(path)
    fields = {key: config[key] for key in _FIELDS if key in config}
    if config.get("model_type") == "bert":
        fields["embedding_size"] = fields["hidden_size"]
        encoder, head = electra_names(weights)
        weights = {**encoder, **head}
    elif "ElectraForMaskedLM" not in (config.get("architectures") or ()):
        raise UserError(f"generator.model {path}: is no masked language model (ElectraForMaskedLM or a BERT's)")
    above = path.parent / "model.safetensors"
    try:
        above_it = load_tensors(path.parent) if above.is_file() else {}
        weights = complete(weights, above_it, prefix="electra.")
    except KeyError as error:
        raise UserError(
            f"generator.model {path}: needs {error} of a model in the folder above, which is not there"
        ) from error
    generator = ElectraForMaskedLM(_electra(fields, dropout=dropout, attention=attention))
    _load(generator, weights, what=f"generator.model {path}")
    generator.generator_lm_head.weight = generator.electra.embeddings.word_embeddings.weight
    return generator


def build_teacher(config: PretrainConfig, start: Start, *, tokenizer: Tokenizer, attention: str) -> Any:
    """The frozen encoder whose mean-pooled output is the embedding to copy.

    Raises:
        UserError: There is none, or its vocabulary is another.
    """
    chosen = start
    if config.objective.teacher is not None:
        chosen = find_start(config.objective.teacher, shape=config.shape)
    if not chosen.weights or chosen.tokenizer is None:
        raise UserError("objective.distil: training from scratch has no teacher; name one in objective.teacher")
    if chosen.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise UserError(
            f"objective.teacher {config.objective.teacher}: has another vocabulary than the model that is trained; "
            "from scratch, give vocabulary.model the same value"
        )
    _check_width(config, chosen.config["max_position_embeddings"], of="objective.teacher")
    teacher = ElectraModel(_electra(chosen.config, dropout=0.0, attention=attention))
    encoder = {name.removeprefix("electra."): t for name, t in chosen.weights.items() if name.startswith("electra.")}
    _load(teacher, encoder, what="objective.teacher")
    return teacher.requires_grad_(False).eval()


_FIELDS = (
    "vocab_size", "embedding_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings", "type_vocab_size", "hidden_act", "layer_norm_eps",
)  # fmt: skip


_LINEAR = (
    "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
    "intermediate.dense", "output.dense",
)  # fmt: skip


def _electra(fields: dict[str, Any], *, dropout: float, attention: str) -> Any:
    return ElectraConfig(
        **fields,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=0,
        attn_implementation=attention,
    )


def _check_width(config: PretrainConfig, positions: int, *, of: str) -> None:
    """See that a network has a position for every piece of a batch, padding included."""
    window, pad_to = config.feed.window, config.feed.pad_to
    if window > positions:
        raise UserError(f"feed.window is {window}, but {of} has only {positions} positions")
    if padded(window, pad_to) > positions:
        raise UserError(
            f"feed.pad_to is {pad_to}: windows of {window} pieces are padded to {padded(window, pad_to)}, but {of} has "
            f"only {positions} positions"
        )


def _narrow(shape: dict[str, Any], settings: GeneratorSettings) -> dict[str, Any]:
    """The same depth, a quarter of the heads (ELECTRA, section 3.2: a quarter to a half works best)."""
    head = shape["hidden_size"] // shape["num_attention_heads"]
    dims = settings.dims or max(1, shape["num_attention_heads"] // 4) * head
    if dims % head:
        raise UserError(f"generator.dims is {dims}; expected a multiple of the discriminator's head size, {head}")
    inner = max(8, shape["intermediate_size"] * dims // shape["hidden_size"])
    return {**shape, "hidden_size": dims, "num_attention_heads": dims // head, "intermediate_size": inner}


def _made_before(model: str, start: Start, *, dropout: float, attention: str) -> Any:
    if model == OWN:
        if start.path is None or not (start.path / FOLDER / "model.safetensors").is_file():
            raise UserError(f"generator.model: `own` needs a `start` that has a generator (a folder `{FOLDER}` in it)")
        return load_generator(start.path / FOLDER, dropout=dropout, attention=attention)
    if model != START:
        return load_generator(Path(model).expanduser(), dropout=dropout, attention=attention)
    if not start.weights:
        raise UserError("generator.model: `start` needs an encoder as `start`; training from scratch has none")
    generator = ElectraForMaskedLM(_electra(start.config, dropout=dropout, attention=attention))
    encoder = {name: tensor.clone() for name, tensor in start.weights.items() if name.startswith("electra.")}
    _load(generator, {**encoder, **start.head}, what="generator.model", may_miss="generator_")
    generator.generator_lm_head.weight = generator.electra.embeddings.word_embeddings.weight
    return generator


def _low_rank(config: PretrainConfig, start: Start, discriminator: Any, *, attention: str) -> Networks:
    """A generator that is the start's discriminator but for thin changes and a head; only those are learned.

    They begin with nothing or, where `generator.model` was made before, with what comes nearest to it.
    """
    rank, model = config.generator.rank, config.generator.model
    if rank is None or model is None or config.objective.discriminator or start.kind != "electra":
        raise UserError(
            "generator.rank: a generator of low rank is made for a finished discriminator; set generator.model: start, "
            "objective.discriminator: 0, and `start` to an ELECTRA model"
        )
    generator = ElectraForMaskedLM(_electra(start.config, dropout=config.dropout, attention=attention))
    before: dict[str, Tensor] = {}
    if model != START:
        before = _made_before(model, start, dropout=0.0, attention=attention).state_dict()
    _load(generator, start.weights, what="start", may_miss="generator_")
    tie(generator, discriminator)
    discriminator.requires_grad_(False)
    generator.electra.requires_grad_(False)
    for number, layer in enumerate(generator.electra.encoder.layer):
        for name in _LINEAR:
            parent, _, own = name.rpartition(".")
            toward = before.get(f"electra.encoder.layer.{number}.{name}.weight")
            if before and (toward is None or toward.shape != layer.get_submodule(name).weight.shape):
                raise UserError(
                    f"generator.model {model}: expected one as deep and wide as the start, for generator.rank"
                )
            thin = LowRankLinear(layer.get_submodule(name), rank, toward=toward)
            setattr(layer.get_submodule(parent), own, thin)
    head = {name: tensor for name, tensor in before.items() if name.startswith("generator_")}
    head.pop("generator_lm_head.weight", None)  # the discriminator's embeddings
    generator.load_state_dict(head, strict=False)
    return Networks(discriminator, generator, tied=False, frozen=False)


def _continue(generator: nn.Module, path: Path | None) -> None:
    """Take over the weights of the start's own generator, where it has one of this shape."""
    folder = path / "generator" if path else None
    if folder is None or not (folder / "model.safetensors").is_file():
        return
    weights = load_tensors(folder)
    own = {name: t for name, t in generator.state_dict().items() if not name.startswith("electra.embeddings.")}
    own.pop("generator_lm_head.weight")
    if all(name in weights and weights[name].shape == tensor.shape for name, tensor in own.items()):
        generator.load_state_dict({name: weights[name] for name in own}, strict=False)


def _load(module: nn.Module, weights: dict[str, torch.Tensor], *, what: str, may_miss: str = "\0") -> None:
    if not weights:
        return
    own = module.state_dict()
    missing = [name for name in own if name not in weights and not name.startswith(may_miss)]
    wrong = [name for name in own if name in weights and weights[name].shape != own[name].shape]
    if missing or wrong:
        raise UserError(f"{what}: tensor {(missing + wrong)[0]} is missing or of another shape than config.json tells")
    module.load_state_dict({name: copy.copy(weights[name]) for name in own if name in weights}, strict=False)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"generator.model {path}: config.json cannot be read ({error})") from error
    return dict(config)
