"""`rtdscan lexicon INPUT OUTPUT`: how many documents of a corpus hold each word, frozen into a bundle."""

import argparse
import sys
from collections.abc import Iterator

from rtdscan.pipeline.config import load_config
from rtdscan.pipeline.detection.settings import LexiconConfig

HELP = (
    "Count in how many documents of INPUT each word occurs, and freeze that into a bundle: a rare name that recurs in\n"
    "your corpus is then no surprise.\n\n"
    "OUTPUT is the directory of a new bundle, or a file that ends in .parquet. The model's own list stays: of a word\n"
    "in both, the larger share counts (--alone: only INPUT counts, for another language or domain). A lexicon holds\n"
    "words of the corpus: keep it as you keep the corpus. Errors that recur become words, too. INPUT is read twice:\n"
    "for the words, and for those of them that it writes as two as well."
)
CONFIG = LexiconConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """INPUT, OUTPUT."""
    parser.add_argument("paths", metavar="INPUT OUTPUT", nargs="+", help="Parquet files, folders or globs; then OUTPUT")
    parser.add_argument(
        "--model", default="default", metavar="M", help="bundle to put it in; default: the one that ships"
    )
    parser.add_argument("--alone", action="store_true", help="leave the model's own list out")


def run(args: argparse.Namespace) -> int:
    """Count, merge, write."""
    from functools import partial
    from io import BytesIO
    from pathlib import Path

    import numpy as np

    from rtdscan.pipeline.detection.bundles import card_of, check_lexicon, check_output, write_bundle
    from rtdscan.pipeline.detection.counting import count_words, merged
    from rtdscan.pipeline.detection.labels import iterate_texts
    from rtdscan.pipeline.printing import after_work, print_json
    from rtdscan.transforms import storage
    from rtdscan.transforms.bundle import load_bundle
    from rtdscan.transforms.errors import UserError
    from rtdscan.transforms.lexicon import LEXICON_FILE, LISTED
    from rtdscan.transforms.lexicon_file import read_counts, write_lexicon

    config = load_config(LexiconConfig, files=args.config, sets=args.set)
    if len(args.paths) < 2:
        raise UserError("expected INPUT and OUTPUT; see `rtdscan lexicon --help`")
    *inputs, output = args.paths
    check_lexicon(output, inputs)
    bundle = load_bundle(args.model)
    to_file = output.endswith(".parquet")
    path = Path(output) if to_file else check_output(bundle, output)
    count = partial(count_words, tokenizer=bundle.tokenizer(), memory_words=config.memory_words)
    counts = count(iterate_texts(inputs, text=config.text))
    if not counts.documents:
        raise UserError(f"{', '.join(inputs)}: holds no text")
    words, documents_W = counts.most_frequent(config.words, least=config.least)
    pairs = count(iterate_texts(inputs, text=config.text), written_as_one=words)
    apart, documents_A = pairs.most_frequent(config.words, least=config.least)
    own, total, forgotten = len(words), counts.documents, max(counts.forgotten, pairs.forgotten)
    words, documents_W = [*words, *apart], np.concatenate([documents_W, documents_A])
    listed = bundle.path / LEXICON_FILE
    if listed.is_file() and not args.alone:
        old, old_total = read_counts(listed)
        words, documents_W = merged(
            words,
            documents_W,
            total=total,
            old=old["word"].to_pylist(),
            old_documents=old["documents"].to_numpy(),
            old_total=old_total,
        )
        total = old_total
    sink, two = BytesIO(), sum(" " in word for word in words)
    listed_words = len(words) - two
    print(f"rtdscan: looking which of {listed_words:,} words may be slips of others", file=sys.stderr)
    write_lexicon(words, documents_W.tolist(), total=total, sink=sink)
    summary = {
        "output": output,
        "documents": counts.documents,
        "words": own,
        "listed": listed_words,
        "pairs": two,
        "bytes": sink.tell(),
        "forgotten": forgotten,
    }
    if to_file:
        storage.put_bytes(output, sink.getvalue())
    else:
        about = f"{listed_words:,} words; {own:,} of them from {counts.documents:,} documents of a corpus of its own."
        card = card_of(bundle)
        written = write_bundle(
            bundle, path, card=card, files={LEXICON_FILE: sink.getvalue()}, section=("Lexicon", about)
        )
        summary["digest"] = written.digest
    with after_work():
        if args.json:
            print_json(summary)
        else:
            found = f"{own:,} are in {config.least} or more of {counts.documents:,} documents"
            more = f"; {two:,} are written as two words, too" if two else ""
            print(f"{output}: {listed_words:,} words; {found}{more}")
    for warning in _warnings(config, own=own, documents=counts.documents, forgotten=forgotten):
        print(f"rtdscan: {warning}", file=sys.stderr)
    if not to_file and not set(LISTED) & set(bundle.card.readout.coefficients):
        print("rtdscan: this model's readout does not use a lexicon yet: run `rtdscan calibrate`", file=sys.stderr)
    return 0


def _warnings(config: LexiconConfig, *, own: int, documents: int, forgotten: int) -> Iterator[str]:
    """What the corpus did not give, and what memory did not hold."""
    if not own:
        yield (
            f"warning: no word is in {config.least} or more of the {documents:,} documents, so that nothing of them is "
            "in the lexicon; count more documents, or set least lower"
        )
    if forgotten:
        yield f"there were more than {config.memory_words:,} words: counts may be too low by up to {forgotten:,}"
    if forgotten >= config.least:
        yield (
            f"warning: words in up to {forgotten:,} documents may be missing, though {config.least} suffice (least); "
            "set memory_words higher, at about 250 bytes a word, or least"
        )
