"""A run as a whole: start it, resume it, or say that it is finished.

MODEL/pretrain.json     options and corpus of the run, written before the first step
MODEL/vocabulary.json   the tokenizer, while the run is not finished
MODEL/checkpoints/      the state; gone once the run is finished
MODEL/metrics.jsonl  events/  curves.png
MODEL/…                 the bundle; bundle.json is written last
"""

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from rtdscan.pipeline.training import checkpoint
from rtdscan.pipeline.training.corpus import Corpus, open_corpus, sample_texts
from rtdscan.pipeline.training.embedding import TEXT_MB, check_map, fit_map
from rtdscan.pipeline.training.examples import recipe_of, special_id
from rtdscan.pipeline.training.export import export, training_facts
from rtdscan.pipeline.training.feed import UNITS_PER_BLOCK, Feed, Plan
from rtdscan.pipeline.training.loop import Run, State, restore, train
from rtdscan.pipeline.training.models import build, build_teacher
from rtdscan.pipeline.training.objective import Objective
from rtdscan.pipeline.training.optimiser import Adam
from rtdscan.pipeline.training.recorder import CLOCK, EVENTS, METRICS, Recorder, draw_curves, read_metrics
from rtdscan.pipeline.training.settings import CHANGEABLE, PretrainConfig, flat
from rtdscan.pipeline.training.start import Start, find_start
from rtdscan.pipeline.training.vocabulary import train_vocabulary
from rtdscan.transforms import storage
from rtdscan.transforms.engines import has_bfloat16
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.settings import GENERATOR

SETTINGS = "pretrain.json"
VOCABULARY = "vocabulary.json"
CHECKPOINTS = "checkpoints"
DONE = "bundle.json"

MANY_EPOCHS = 10
"""From here on a corpus is told to be too small: text that is read again teaches less each time, after some sixteen
times hardly anything (Muennighoff et al. 2023, arXiv:2305.16264)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call.

    Attributes:
        finished_before: There was nothing left to do.
        resumed_from: Step of the checkpoint that was taken up; 0: from the beginning.
        steps, pieces, seconds: Of the whole run.
        epochs: How often the corpus was read; None: not known (finished before).
        last: The last line of metrics.
        notes: What a user should know; a sentence each.
    """

    finished_before: bool
    resumed_from: int
    steps: int
    pieces: int
    seconds: float
    epochs: float | None
    last: dict[str, Any]
    notes: tuple[str, ...]


def pretrain(inputs: Sequence[str], model: str, config: PretrainConfig) -> Outcome:
    """Train until `config.steps`, from where an earlier call left off.

    Args:
        inputs: INPUT: files, folders, globs.
        model: MODEL, a local folder.
        config: Options.

    Raises:
        UserError: MODEL belongs to another run, or the options, the corpus or the start can't be used.
        BusyError: Another process trains into MODEL.
        RtdscanError: Stopped by a signal; run again to resume.
    """
    if not storage.is_local(model):
        raise UserError(f"MODEL {model}: training needs a local folder; copy the finished bundle where it is wanted")
    folder = storage.local(model)
    _check_folder(folder, config)
    corpus = open_corpus(
        inputs,
        text=config.input.text,
        licence=config.input.license,
        unit_mb=config.feed.shuffle_mb / UNITS_PER_BLOCK,
    )
    with storage.lock(str(folder)):
        fresh = not (folder / SETTINGS).is_file()
        resolved = _begin(folder, corpus, config)
        if (folder / DONE).is_file():
            _clean_up(folder)  # the process may have been killed before it did
            return _finished(folder)
        try:
            return _train(folder, corpus, config, bfloat16=resolved["precision"] == "bfloat16")
        except UserError:
            # Options that can't be used: with better ones the folder serves again; not so once anything was trained.
            if fresh and not (folder / CHECKPOINTS).exists():
                for name in (SETTINGS, VOCABULARY, METRICS):
                    (folder / name).unlink(missing_ok=True)
                shutil.rmtree(folder / EVENTS, ignore_errors=True)
            raise


def _train(folder: Path, corpus: Corpus, config: PretrainConfig, *, bfloat16: bool) -> Outcome:
    device = find_device(config.device)
    if device.type == "cpu":
        torch.set_num_threads(config.threads or os.cpu_count() or 1)
    torch.manual_seed(config.seed)
    start = find_start(config.start, shape=config.shape, average=config.average)
    layers, chosen = start.config["num_hidden_layers"], config.export.embedding_layer
    if not -layers - 1 <= chosen <= layers:
        raise UserError(
            f"export.embedding_layer is {chosen}; there are {layers}, so expected {-layers - 1} to {layers}"
        )
    given = _given_words(config, start)
    tokenizer = given.tokenizer if given and given.tokenizer else _trained_tokenizer(folder, corpus, config)
    # Measured: on a CPU eager attention trains faster than the fused kernel.
    attention = "sdpa" if device.type == "cuda" else "eager"
    networks = build(config, start, vocab=tokenizer.get_vocab_size(), attention=attention).to(device)
    teacher = (
        build_teacher(config, start, tokenizer=tokenizer, attention=attention).to(device)
        if config.objective.distil or config.export.embedding_windows
        else None
    )
    if teacher is not None and config.export.embedding_windows:
        check_map(networks.discriminator, teacher, windows=min(config.export.embedding_windows, corpus.rows))
    objective = Objective(
        networks,
        config.objective,
        teacher=teacher if config.objective.distil else None,
        mask=special_id(tokenizer, "MASK"),
        embedding_layer=config.export.embedding_layer,
    )
    optimiser = Adam(networks.trained(), config.optimiser, layers=layers)
    content, problems = checkpoint.load_newest(folder / CHECKPOINTS)
    notes = [*corpus.notes, *problems]
    run = Run(
        config=config,
        networks=networks,
        objective=objective,
        optimiser=optimiser,
        recorder=Recorder(folder, step=content["step"] if content else 0),
        checkpoints=folder / CHECKPOINTS,
        device=device,
        bfloat16=bfloat16,
        state=State.fresh(),
    )
    run.state.sums = run.state.sums.to(device)
    if content:
        restore(run, content)
    resumed_from = run.state.step
    if config.compile:
        torch.set_float32_matmul_precision("high")
        torch._dynamo.config.recompile_limit = 64  # a shape for each length of windows, and of the block's last batch
        for network in (networks.discriminator, networks.generator, teacher):
            if network is not None:
                getattr(network, "electra", network).compile(dynamic=False)
    plan = Plan(corpus.units, corpus.text, recipe_of(config, tokenizer), config.seed)
    feed = Feed(plan, start=run.state.position, workers=config.feed.workers)
    with closing(run.recorder), closing(feed):
        train(run, iter(feed))
    lines = read_metrics(folder)
    last = lines[-1] if lines else {}
    facts = training_facts(config, corpus, start, pieces=run.state.pieces, seconds=run.state.seconds, last=last)
    if draw_curves(folder) is None and config.steps:
        notes.append(
            "no picture of the curves: matplotlib is not installed (extra `train`), or there are too few lines"
        )
    epochs = plan.epochs(run.state.position)
    if epochs > MANY_EPOCHS:
        notes.append(f"the corpus was read {epochs:,.1f} times: too small for so many steps; give more text")
    found = None
    if teacher is not None and config.export.embedding_windows:
        texts = sample_texts(corpus, megabytes=TEXT_MB * config.export.embedding_windows, seed=config.seed)
        found = fit_map(networks.discriminator, teacher, texts, tokenizer=tokenizer, config=config, device=device)
    lexicon = given.lexicon if given else None
    if lexicon and config.objective.discriminator:
        notes.append("its lexicon is that of the model it starts from: `rtdscan lexicon` adds the words of your corpus")
    export(folder, networks, tokenizer, config, facts=facts, embedding_map=found, lexicon=lexicon)
    _clean_up(folder)
    return Outcome(False, resumed_from, run.state.step, run.state.pieces, run.state.seconds, epochs, last, tuple(notes))


def find_device(wanted: str) -> torch.device:
    """`auto`: a GPU where there is one. What is asked for and not there is an error, never something else."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {wanted}: PyTorch sees no GPU here; use device: cpu, or a CUDA build of PyTorch")
    return torch.device(wanted)


def find_precision(wanted: str, device: torch.device) -> str:
    """`auto`: bfloat16 where the device computes in it."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if has_bfloat16() else "float32"


def _check_folder(folder: Path, config: PretrainConfig) -> None:
    """See that MODEL is ours and was made with these options; nothing is written."""
    if config.corruption.kinds.get(GENERATOR):
        raise UserError(
            f"corruption.kinds: {GENERATOR} is for `evaluate` and `calibrate`; in training the generator refills the "
            "windows that are not damaged, see objective.corrupted"
        )
    if config.objective.discriminator == 0 and config.generator.frozen:
        raise UserError("objective.discriminator is 0 and generator.frozen is true: nothing would be trained")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"MODEL {folder}: is a file; expected a folder that is new, empty, or of an earlier run")
    if not (folder / SETTINGS).is_file():
        others = [path.name for path in folder.glob("*") if not path.name.startswith(".")] if folder.is_dir() else []
        if others:
            raise UserError(f"MODEL {folder}: holds {others[0]}, which is not of a training run; give a new folder")
        return
    saved = _read(folder)["options"]
    now = flat(config)
    for key in sorted({*saved, *now}):
        if key not in CHANGEABLE and saved.get(key) != now.get(key):
            raise UserError(
                f"MODEL {folder}: was made with {key}: {json.dumps(saved.get(key), ensure_ascii=False)}, now it is "
                f"{json.dumps(now.get(key), ensure_ascii=False)}; train into another folder, or use the old value"
            )


def _begin(folder: Path, corpus: Corpus, config: PretrainConfig) -> dict[str, Any]:
    """Note what the run is; or check that it is the same. Returns what was resolved when it began."""
    if (folder / SETTINGS).is_file():
        saved = _read(folder)
        if saved["corpus"] != corpus.digest:
            raise UserError(
                f"MODEL {folder}: was begun on another INPUT (digest {saved['corpus']}, now {corpus.digest}): other "
                "files, or their contents changed; train into another folder"
            )
        return dict(saved["resolved"])
    resolved = {"precision": find_precision(config.precision, find_device(config.device))}
    content = {"format": 1, "options": flat(config), "corpus": corpus.digest, "resolved": resolved}
    storage.put_bytes(str(folder / SETTINGS), json.dumps(content, indent=1, ensure_ascii=False).encode())
    return resolved


def _read(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return {key: saved[key] for key in ("options", "corpus", "resolved")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error!r}); train into another folder") from error


def _clean_up(folder: Path) -> None:
    """Remove what only an unfinished run needs."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    (folder / VOCABULARY).unlink(missing_ok=True)


def _finished(folder: Path) -> Outcome:
    lines = read_metrics(folder)
    last = lines[-1] if lines else {}
    steps, pieces, seconds = (last.get(key, 0) for key in ("step", "pieces", CLOCK[0]))
    return Outcome(True, int(steps), int(steps), int(pieces), float(seconds), None, last, ())


def _given_words(config: PretrainConfig, start: Start) -> Start | None:
    """The model whose tokenizer, and lexicon, are taken: the start, or from scratch `vocabulary.model`, if any."""
    if start.tokenizer is not None:
        return start
    return find_start(config.vocabulary.model, shape=config.shape) if config.vocabulary.model is not None else None


def _trained_tokenizer(folder: Path, corpus: Corpus, config: PretrainConfig) -> Tokenizer:
    chosen, path = config.vocabulary, folder / VOCABULARY
    if not path.is_file():
        texts = sample_texts(corpus, megabytes=chosen.mb, seed=config.seed)
        made = train_vocabulary(texts, size=chosen.size, lower_case=chosen.lower_case, alphabet=chosen.alphabet)
        storage.put_bytes(str(path), made.to_str(pretty=True).encode())
    return Tokenizer.from_file(str(path))
