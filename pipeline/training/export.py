"""The bundle that comes out: weights, tokenizer, bundle.json and a model card; and the generator beside it."""

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from rtdscan.pipeline.training.corpus import Corpus
from rtdscan.pipeline.training.examples import folds_case
from rtdscan.pipeline.training.models import Networks
from rtdscan.pipeline.training.recorder import CLOCK
from rtdscan.pipeline.training.settings import PretrainConfig
from rtdscan.pipeline.training.start import Start
from rtdscan.transforms.bundle import BundleCard
from rtdscan.transforms.embedding import EMBEDDING_FILE, EmbeddingMap
from rtdscan.transforms.lexicon import LEXICON_FILE

TIED = ("electra.embeddings.", "generator_lm_head.weight")
"""Tensors that a tied generator shares with the discriminator; stored once, with the discriminator."""


def training_facts(
    config: PretrainConfig, corpus: Corpus, start: Start, *, pieces: int, seconds: float, last: dict[str, Any]
) -> dict[str, Any]:
    """What bundle.json tells of the training: data, recipe, effort, the last line of metrics; no local paths."""
    recipe = config.model_dump(mode="json", exclude_defaults=True)
    for key in ("start", "average"):
        recipe.pop(key, None)
    for section, key in (("objective", "teacher"), ("generator", "model"), ("vocabulary", "model")):
        if key in recipe.get(section, {}):
            recipe[section][key] = Path(str(recipe[section][key])).name
    return {
        "start": config.start if start.path is None or ":" in config.start else Path(config.start).name,
        "averaged": 1 + len(config.average),
        "data": {
            "files": corpus.files,
            "documents": corpus.rows,
            "text_mb": round(corpus.text_bytes / 1e6, 1),
            "digest": corpus.digest,
            "licences": corpus.licences,
        },
        "steps": config.steps,
        "pieces": pieces,
        "hours": round(seconds / 3600, 2),
        "recipe": recipe,
        "last": {key: value for key, value in last.items() if key not in CLOCK},
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }


def export(
    folder: Path,
    networks: Networks,
    tokenizer: Tokenizer,
    config: PretrainConfig,
    *,
    facts: dict[str, Any],
    embedding_map: EmbeddingMap | None = None,
    lexicon: Path | None = None,
) -> None:
    """Write the bundle into MODEL, bundle.json last: where it is, the bundle is whole.

    With `objective.discriminator: 0` only a generator was made: MODEL becomes a masked language model's directory.

    Args:
        folder: MODEL.
        networks: As trained.
        tokenizer: Theirs.
        config: The run's options.
        facts: From `training_facts`.
        embedding_map: From `embedding.fit_map`.
        lexicon: Of the model whose words these are; a discriminator gets a copy.
    """
    aside = folder / ".export"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    name = config.export.name or folder.resolve().name
    if config.objective.discriminator == 0:
        # Of a generator of low rank, what it shares is in the model that it was made for.
        named = networks.generator.named_parameters(remove_duplicate=False)
        kept = {name for name, parameter in named if not parameter.requires_grad}
        _write_model(aside, networks.generator, config, leave_out=tuple(kept))
    else:
        _write_model(aside, networks.discriminator, config, leave_out=())
        if lexicon is not None:
            shutil.copyfile(lexicon, aside / LEXICON_FILE)
        if config.export.generator and not networks.frozen:
            (aside / "generator").mkdir()
            _write_model(aside / "generator", networks.generator, config, leave_out=TIED if networks.tied else ())
    if embedding_map is not None:
        embedding_map.save(aside / EMBEDDING_FILE)
    tokenizer.save(str(aside / "tokenizer.json"))
    card = BundleCard(
        name=name,
        window=config.feed.window,
        lower_case=folds_case(tokenizer),
        embedding_layer=config.export.embedding_layer,
        training=facts,
    )
    (aside / "README.md").write_text(model_card(name, networks, config, facts), encoding="utf-8")
    last = "bundle.json"
    (aside / last).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    for path in sorted(aside.iterdir(), key=lambda path: path.name == last):
        if path.is_dir():
            shutil.rmtree(folder / path.name, ignore_errors=True)
        with_file = path if path.is_file() else path / "model.safetensors"
        with with_file.open("rb") as file:
            os.fsync(file.fileno())
        path.rename(folder / path.name)
    aside.rmdir()


def _write_model(folder: Path, network: Any, config: PretrainConfig, *, leave_out: tuple[str, ...]) -> None:
    kind = torch.float16 if config.export.weights == "float16" else torch.float32
    seen: dict[int, str] = {}
    tensors = {}
    for name, tensor in network.state_dict().items():
        # Tied tensors within one network (input and output pieces) are stored once, as transformers does.
        if name.startswith(leave_out or "\0") or seen.setdefault(tensor.data_ptr(), name) != name:
            continue
        tensors[name] = tensor.detach().to("cpu", kind).contiguous()
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors makes it readable for its owner only
    fields = json.loads(network.config.to_json_string())
    fields["architectures"] = [type(network).__name__]
    fields["dtype"] = config.export.weights
    (folder / "config.json").write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def model_card(name: str, networks: Networks, config: PretrainConfig, facts: dict[str, Any]) -> str:
    """README.md of the bundle."""
    network: Any = networks.discriminator if config.objective.discriminator else networks.generator
    shape, data = network.config, facts["data"]
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    kind = "discriminator that finds words that do not belong" if config.objective.discriminator else "generator"
    licences = "".join(f"| {licence} | {count:,} |\n" for licence, count in data["licences"].items())
    numbers = "".join(f"| {key} | {value:.4g} |\n" for key, value in facts["last"].items())
    front = f"---\nlicense: {config.export.licence}\n---\n" if config.export.licence else ""
    return (
        f"{front}# {name}\n\nAn ELECTRA {kind}, made by `rtdscan pretrain`.\n\n"
        f"Architecture: {shape.num_hidden_layers} layers x {shape.hidden_size}, {shape.num_attention_heads} heads, "
        f"embeddings of {shape.embedding_size}, {shape.vocab_size:,} pieces, {millions:.1f} M parameters, "
        f"{config.export.weights}. Windows of {config.feed.window} pieces.\n\n"
        f"Start: {facts['start']}"
        + (f", the mean of {facts['averaged']} models" if facts["averaged"] > 1 else "")
        + f".\n\n## Data\n\n{data['documents']:,} documents in {data['files']:,} Parquet files, {data['text_mb']:,} MB "
        f"of text (digest `{data['digest']}`).\n"
        + (f"\n| licence | documents |\n|---|---|\n{licences}" if licences else "\nLicences: not told by the corpus.\n")
        + f"\n## Recipe\n\n{facts['steps']:,} steps, {facts['pieces']:,} pieces, {facts['hours']} hours. "
        f"Options that differ from the defaults:\n\n```json\n{json.dumps(facts['recipe'], indent=1)}\n```\n\n"
        f"## Last metrics of the training\n\nOn the training stream, not on held-out errors: measure with "
        f"`rtdscan evaluate`, and fit probabilities with `rtdscan calibrate`, before you rely on them.\n\n"
        f"| metric | value |\n|---|---|\n{numbers}\n"
        f"## What it is bad at\n\nNot calibrated: thresholds are guesses until `rtdscan calibrate`. It knows the "
        f"language and the subjects of its corpus only; rare names and jargon look wrong to it.\n"
    )
