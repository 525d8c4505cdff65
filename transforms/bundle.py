"""A model directory: weights, tokenizer, calibration, card. Loads without torch, transformers or Beam.

config.json  model.safetensors  tokenizer.json     as Hugging Face writes an ELECTRA discriminator
bundle.json                                        `BundleCard`; what Hugging Face has no place for
lexicon*                                           optional, see `SCORING_FILES`
embedding.safetensors                              optional: what makes embeddings of hidden states, see embedding.py
int8.safetensors                                   optional: ranges for precision int8, see ranges.py
generator/                                         optional: a masked language model, see generator.py
README.md                                          the model card
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from rtdscan.transforms.electra import SAFETENSORS_ONLY, ElectraShape, check_weights, parse_config, read_weights
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.fetch import fetch_hub, fetch_url, is_hub_name, is_url
from rtdscan.transforms.lexicon import LEXICAL, LEXICON_FILE, LISTED, Lexicon
from rtdscan.transforms.settings import Share

DEFAULT = Path(__file__).with_name("data") / "bundle"
"""The bundle that ships inside the package."""

NETWORK = ("largest", "mean", "first", "pieces", "level")
"""Features of a word from the network's output, see readout.word_features and readout.text_levels."""

DEFAULT_WINDOW = 128
"""Tokens of a window of a model that does not say; what ELECTRA-Small was trained on."""

SCORING_FILES = ("lexicon*", "embedding.safetensors")
"""Files of a bundle, beside weights and tokenizer, that change scores and so belong to the digest."""

UNCALIBRATED = (
    "is not calibrated: its probabilities and thresholds are guesses; run `rtdscan calibrate` on labelled text, or "
    "with --corrupt on clean text, to get a bundle that is"
)
"""What is to be known of a plain ELECTRA directory, and of a bundle as `pretrain` writes it."""

RANGES_FILE = "int8.safetensors"
"""Changes scores in int8 alone, and has a digest of its own (see job.Job)."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ReadoutCard(_Part):
    """How evidence about a word becomes its logit; the features are readout.py's."""

    coefficients: dict[str, float] = {}
    intercept: float = 0.0


class CalibrationCard(_Part):
    """Probability = sigmoid(slope * logit + intercept)."""

    slope: float = Field(default=1.0, gt=0.0)
    intercept: float = 0.0


class ThresholdsCard(_Part):
    """The bundle's own thresholds, used where settings have none."""

    floor: Share = 0.05
    flag: Share = 0.5
    review: Share = 0.05
    drop: Share = 0.2


class BundleCard(_Part):
    """bundle.json.

    Attributes:
        format: Of the file.
        name: What the model is called.
        window: Tokens of a window, special tokens included.
        lower_case: Whether the tokenizer folds case; None: not known.
        readout, calibration, thresholds: See their classes.
        flag_precision: Precision at thresholds.flag as wanted, as measured, with its interval (null where few documents
            had flags), in documents that had no part in choosing it (absent or null: not known), and on what; None:
            never measured.
        embedding_layer: Which hidden states are averaged to the embedding: 0 the embeddings, 1 the first layer …, -1
            the last.
        int8: Whether int8 finds errors as well as float32, as measured on labelled words (AUROC and average precision
            lower by .002 at most); None: not measured, `auto` tries it on packaged texts.
        training: Data, licence, steps: for people.
        metrics: How well it finds errors: for people.
    """

    format: Literal[1] = 1
    name: str = ""
    window: int = Field(default=DEFAULT_WINDOW, ge=8)
    lower_case: bool | None = None
    readout: ReadoutCard = ReadoutCard()
    calibration: CalibrationCard = CalibrationCard()
    thresholds: ThresholdsCard = ThresholdsCard()
    flag_precision: dict[str, Any] | None = None
    embedding_layer: int = -1
    int8: bool | None = None
    training: dict[str, Any] = {}
    metrics: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Ids of the tokenizer's special tokens; `mask` is -1 where there is neither [MASK] nor a generator to need it."""

    cls: int
    sep: int
    pad: int
    unk: int
    mask: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model directory that was looked through and found complete.

    Attributes:
        path: The directory on this machine.
        name: The card's name, else the hub's or the directory's.
        digest: blake2b-128 hex digest of all that changes scores; thresholds and the rest of the card do not.
        config: Shape of the network.
        card: bundle.json, or defaults.
        special: Ids of special tokens.
        warnings: What a user should know about scores of this model; a sentence each.
    """

    path: Path
    name: str
    digest: str
    config: ElectraShape
    card: BundleCard
    special: SpecialIds
    warnings: tuple[str, ...]

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.path / "model.safetensors"

    @property
    def embedding_layer(self) -> int:
        """The card's."""
        return self.card.embedding_layer

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The tensors of the weights, see `electra.read_weights`."""
        return read_weights(self.weights, self.config)

    def tokenizer(self) -> Tokenizer:
        """A new tokenizer, with truncation and padding off."""
        return _open_tokenizer(self.path)

    def shared_tokenizer(self) -> Tokenizer:
        """The same, opened once a process and used by all its threads: to encode with, never to be changed."""
        return _shared_tokenizer(self.path, self.digest)

    def lexicon(self) -> Lexicon | None:
        """The lexicon, where there is one; read once a process."""
        from rtdscan.transforms.lexicon_file import shared_lexicon  # and with it pyarrow

        where = self.path / LEXICON_FILE
        return shared_lexicon(where, self.digest) if where.is_file() else None


def load_bundle(model: str) -> Bundle:
    """Find a model, fetch it if it is elsewhere, and look it through.

    Args:
        model: "default", a directory, NAME@REVISION on the Hugging Face hub, or a URL that the file system layer
            knows (s3://…, gs://…). A directory of that name wins over the hub.

    Returns:
        The bundle. Only the header of the weights is read here, and all bytes for the digest.

    Raises:
        UserError: There is no such model, or it is not a complete ELECTRA discriminator.
    """
    if model == "default":
        return _load_directory(DEFAULT, name="default")
    if is_url(model):
        return _load_directory(fetch_url(model), name=model.rstrip("/").rsplit("/", 1)[-1])
    directory = Path(model.removeprefix("file://")).expanduser()
    if directory.is_dir():
        return _load_directory(directory, name=directory.resolve().name)
    if directory.exists():
        raise UserError(f"model {model}: is a file; give the directory that holds config.json and model.safetensors")
    if is_hub_name(model):
        return _load_directory(fetch_hub(model), name=model)
    raise UserError(
        f"model {model}: no such directory; a model on the Hugging Face hub is given as NAME@REVISION, pinned to a "
        "commit or tag"
    )


def _load_directory(path: Path, *, name: str) -> Bundle:
    config_path, weights = path / "config.json", path / "model.safetensors"
    if not config_path.is_file():
        raise UserError(f"model {path}: has no config.json; expected a bundle or a Hugging Face ELECTRA directory")
    shape = parse_config(_read_json(config_path), where=config_path)
    if not weights.is_file():
        if (path / "model.safetensors.index.json").is_file():
            raise UserError(
                f"model {path}: its weights are in several files; save it as one with transformers' "
                "save_pretrained(NEW_DIRECTORY, max_shard_size='10GB')"
            )
        raise UserError(f"model {path}: has no model.safetensors; {SAFETENSORS_ONLY}")
    check_weights(weights, shape)
    tokenizer = _open_tokenizer(path)
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values())
    if largest >= shape.vocab:
        raise UserError(
            f"model {path}: the tokenizer has token ids up to {largest}, but config.json tells vocab_size "
            f"{shape.vocab}: they belong to different models"
        )
    card, warnings = _read_card(path, shape)
    return Bundle(
        path=path,
        name=card.name or name,
        digest=_digest(path, shape, card),
        config=shape,
        card=card,
        special=_special_ids(tokenizer, path),
        warnings=warnings,
    )


def _read_card(path: Path, shape: ElectraShape) -> tuple[BundleCard, tuple[str, ...]]:
    where = path / "bundle.json"
    if not where.is_file():
        return BundleCard(window=min(DEFAULT_WINDOW, shape.positions)), (f"{path} {UNCALIBRATED}",)
    try:
        card = BundleCard.model_validate(_read_json(where))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{where}: {key}: {first['msg']} (it is {first['input']!r})") from error
    if card.window > shape.positions:
        raise UserError(f"{where}: window is {card.window}, but the network has only {shape.positions} positions")
    listed = [name for name in card.readout.coefficients if name in LISTED]
    if listed and not (path / LEXICON_FILE).is_file():
        raise UserError(f"{where}: the readout has {', '.join(listed)}, but there is no {LEXICON_FILE} beside it")
    unknown = [name for name in card.readout.coefficients if name not in (*NETWORK, *LEXICAL)]
    if unknown:
        raise UserError(f"{where}: the readout has {unknown[0]}; features: {', '.join((*NETWORK, *LEXICAL))}")
    if not -shape.layers - 1 <= card.embedding_layer <= shape.layers:
        raise UserError(
            f"{where}: embedding_layer is {card.embedding_layer}, expected {-shape.layers - 1} to {shape.layers}"
        )
    if card.flag_precision is None and (card.calibration, card.thresholds) == (CalibrationCard(), ThresholdsCard()):
        return card, (f"{path} {UNCALIBRATED}",)
    return card, ()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # JSON and UTF-8 errors, brackets in brackets without end
        raise UserError(f"{path}: is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds {type(value).__name__}, expected a JSON object")
    return value


def _tokenizer_files(path: Path) -> list[Path]:
    if (path / "tokenizer.json").is_file():
        return [path / "tokenizer.json"]
    return [file for name in ("vocab.txt", "tokenizer_config.json") if (file := path / name).is_file()]


def _open_tokenizer(path: Path) -> Tokenizer:
    files = _tokenizer_files(path)
    try:
        if files and files[0].name == "tokenizer.json":
            tokenizer = Tokenizer.from_file(str(files[0]))
        elif files and files[0].name == "vocab.txt":
            tokenizer = _word_piece(files[0], _read_json(files[1]) if len(files) > 1 else {})
        else:
            raise UserError(f"model {path}: has no tokenizer; expected tokenizer.json or vocab.txt")
    except UserError:
        raise
    except Exception as error:  # the tokenizers library raises bare Exception
        raise UserError(f"{files[0]}: is not a tokenizer that can be read ({error})") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # "[MASK]" in a text is what somebody wrote, no mask
    return tokenizer


@lru_cache(maxsize=2)
def _shared_tokenizer(path: Path, digest: str) -> Tokenizer:
    """The tokenizer of the model with this digest; to open it takes 30 ms, as long as to score some short texts."""
    return _open_tokenizer(path)


def _word_piece(vocab: Path, config: dict[str, Any]) -> Tokenizer:
    """A BERT tokenizer from a vocabulary, one piece a line, and the settings of tokenizer_config.json."""
    # Not splitlines: BERT's Chinese vocabulary has U+2028, a line separator, as a piece.
    pieces = vocab.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    ids = {piece: at for at, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK") if f"[{name}]" in ids]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return tokenizer


def _special_ids(tokenizer: Tokenizer, path: Path) -> SpecialIds:
    ids: dict[str, int] = {}
    for name in SpecialIds.__slots__:
        token = f"[{name.upper()}]"
        id_ = tokenizer.token_to_id(token)
        if id_ is None and (name != "mask" or (path / "generator").is_dir()):
            raise UserError(f"model {path}: the tokenizer has no {token}; expected the special tokens of BERT")
        ids[name] = -1 if id_ is None else id_
    return SpecialIds(**ids)


def _digest(path: Path, shape: ElectraShape, card: BundleCard) -> str:
    chosen = {"window", "readout", "calibration", "embedding_layer"}
    parts = {"shape": asdict(shape), **card.model_dump(mode="json", include=chosen)}
    digest = hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16)
    extra = sorted(file for pattern in SCORING_FILES for file in path.glob(pattern))
    for file in [path / "model.safetensors", *_tokenizer_files(path), *extra]:
        digest.update(f"\0{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
