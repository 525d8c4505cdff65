"""`rtdscan pretrain INPUT MODEL`: a discriminator and its generator on the user's own corpus."""

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path

from rtdscan.pipeline.config import load_config
from rtdscan.pipeline.training.settings import PretrainConfig

HELP = (
    "Train a generator and a discriminator (ELECTRA) on INPUT and write a bundle into MODEL.\n\n"
    "Run again on an unfinished MODEL it goes on from the last checkpoint; the result is the same as without the "
    "interruption.\nConfigs to begin with: configs/pretrain-small.yaml (two CPU cores), configs/pretrain-gpu.yaml, "
    "configs/pretrain-chinese.yaml."
)
CONFIG = PretrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """INPUT and MODEL."""
    parser.add_argument("input", metavar="INPUT", nargs="+", help="Parquet files, folders or globs")
    parser.add_argument("model", metavar="MODEL", help="folder of the bundle; new, or of a run to go on with")


def run(args: argparse.Namespace) -> int:
    """Train, resume or say that it is done; returns the exit status."""
    config = load_config(PretrainConfig, files=args.config, sets=args.set)
    # The libraries report usage or look for updates otherwise; nothing here needs a network but a hub name as `start`.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from rtdscan.pipeline.printing import after_work, print_json
    from rtdscan.pipeline.training.run import pretrain
    from rtdscan.transforms.lexicon import LEXICON_FILE

    outcome = pretrain(args.input, args.model, config)
    for note in outcome.notes:
        print(f"rtdscan: {note}", file=sys.stderr)
    with after_work():
        if args.json:
            print_json({"model": args.model, **asdict(outcome)})
        elif outcome.finished_before:
            print(f"{args.model} is finished ({outcome.steps:,} steps); nothing to do")
        else:
            resumed = f", resumed from step {outcome.resumed_from:,}" if outcome.resumed_from else ""
            loss = f"; loss {outcome.last['loss']:.3f}" if "loss" in outcome.last else ""
            read = f"; the corpus was read {outcome.epochs:,.1f} times" if outcome.epochs else ""
            done = f"{outcome.steps:,} steps, {outcome.pieces:,} pieces in {outcome.seconds / 60:.1f} minutes"
            print(f"{args.model}: {done}{resumed}{loss}{read}")
            if config.objective.discriminator:
                if not (Path(args.model) / LEXICON_FILE).is_file():
                    print("next: `rtdscan lexicon` on much text: rare words and suggestions rest on it")
                print("next: `rtdscan calibrate` on labelled text, or with --corrupt on your own corpus")
            else:
                print("next: copy config.json and model.safetensors into a folder `generator` of the model it is for")
    return 0
