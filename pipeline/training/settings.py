"""What a user can choose about training: `PretrainConfig`, from which --help and the README's reference come."""

from typing import Annotated, Any, Literal

from pydantic import Field

from rtdscan.transforms.settings import MixtureSettings, Section, Share

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class CorpusSettings(Section):
    """What is read of each row."""

    text: str | None = Field(
        default=None,
        description="text column, `a.b` for a nested one; default: the only text column, or text/content/document",
    )
    license: str = Field(default="license", description="column whose values the model card counts, where there is one")


class ShapeSettings(Section):
    """The discriminator, where it starts from scratch; the defaults are ELECTRA-Small."""

    layers: int = Field(default=12, ge=1, description="layers of the encoder")
    dims: int = Field(default=256, ge=8, description="width of the encoder, a multiple of the heads")
    heads: int = Field(default=4, ge=1, description="attention heads")
    inner: int = Field(default=1024, ge=8, description="width of the feed-forward layer")
    embedding: int = Field(default=128, ge=8, description="width of the embeddings, which the generator shares")
    positions: int = Field(
        default=512, ge=8, description="positions the network knows; the longest window it can be given"
    )


class VocabularySettings(Section):
    """The WordPiece vocabulary, where training starts from scratch."""

    model: str | None = Field(
        default=None, description="take the vocabulary of this model (as `start`) instead of training one"
    )
    size: int = Field(default=30_522, ge=100, description="pieces, special ones included")
    lower_case: bool = Field(
        default=True, description="fold case and accents; no for languages where they tell words apart"
    )
    alphabet: int = Field(
        default=8_000, ge=10, description="characters that get a piece, the most frequent; others: [UNK]"
    )
    mb: Positive = Field(default=64.0, description="megabytes of text that are read for it, spread over the corpus")


class GeneratorSettings(Section):
    """The small masked language model that makes the replacements."""

    dims: int | None = Field(
        default=None,
        ge=8,
        description="width, a multiple of the discriminator's head size; default: a quarter of its heads",
    )
    model: str | None = Field(
        default=None,
        description="a generator that was made before (its own embeddings, not tied); `own`: the start's; `start`: as "
        "wide as the encoder that training starts from, with its weights; default: narrow, new and tied",
    )
    frozen: bool = Field(default=False, description="do not train it; for a `generator.model` that was made before")
    rank: int | None = Field(
        default=None,
        ge=1,
        description="learn changes of this rank to the start's layers (LoRA) instead of weights, from none on "
        "(`generator.model: start`) or from a generator that was made before; with `objective.discriminator: 0`",
    )


class ObjectiveSettings(Section):
    """What is learned, and how much each part counts."""

    masked: Share = Field(default=0.15, description="share of a window's pieces that the generator has to fill in")
    as_mask: Share = Field(default=0.85, description="share of those that it sees as [MASK]; the others as they are")
    mlm: Weight = Field(default=1.0, description="weight of the generator's loss")
    discriminator: Weight = Field(
        default=50.0,
        description="weight of the discriminator's loss; 0: only a generator is made, and MODEL is no bundle",
    )
    corrupted: Share = Field(
        default=0.5,
        description="share of the windows that are damaged by `corruption` instead of refilled by the generator",
    )
    distil: Weight = Field(
        default=0.0,
        description="weight of the distance between the window's embedding and the teacher's of the clean window",
    )
    distil_share: Share = Field(default=0.5, description="share of the windows that are shown to the teacher")
    teacher: str | None = Field(
        default=None, description="encoder whose mean-pooled embeddings are copied, same vocabulary; default: the start"
    )


class FeedSettings(Section):
    """How the corpus becomes batches."""

    window: int = Field(default=128, ge=8, description="pieces of a window, [CLS] and [SEP] included")
    batch_tokens: int = Field(
        default=4096,
        ge=64,
        description="pieces of a batch at most, with padding, before damage: that adds a tenth, more to short windows",
    )
    pad_to: int = Field(
        default=8, ge=1, description="windows are padded to a multiple; 32 with `compile`, for few shapes"
    )
    short: Share = Field(
        default=0.1, description="share of the documents cut into shorter windows, of one random length each"
    )
    shuffle_mb: Positive = Field(default=8.0, description="megabytes of text that are shuffled together")
    workers: int = Field(
        default=0, ge=0, description="processes that make batches ahead; 0: a thread. Never changes the batches"
    )


class OptimiserSettings(Section):
    """How weights follow gradients."""

    kind: Literal["adamw", "electra"] = Field(
        default="adamw", description="AdamW, or ELECTRA's: the same without bias correction (it wants a long warm-up)"
    )
    lr: Positive = Field(
        default=5e-4,
        description="learning rate before warm-up and decay, which are both multiplied with it as in ELECTRA",
    )
    warmup: int = Field(default=500, ge=0, description="steps over which the learning rate rises from 0")
    final: Share = Field(
        default=0.02, description="share of the learning rate that is left at the end of the linear decay"
    )
    beta1: float = Field(default=0.9, ge=0, lt=1, description="memory of the mean gradient")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="memory of the mean square")
    epsilon: Positive = Field(default=1e-6, description="added to the root of the mean square")
    weight_decay: Weight = Field(default=0.01, description="decay of weight matrices; biases and norms never decay")
    layer_decay: Positive = Field(
        default=1.0, le=1, description="learning rate of a layer as a share of the one above it"
    )
    clip: Positive = Field(
        default=1.0, description="largest norm of all gradients together; longer ones are scaled down"
    )


class CheckpointSettings(Section):
    """How often the state of the run is written."""

    every: int = Field(default=500, ge=1, description="steps between checkpoints")
    keep: int = Field(default=2, ge=1, description="checkpoints that are kept")


class ExportSettings(Section):
    """The bundle that comes out."""

    name: str = Field(default="", description="what the model is called; default: the name of the folder MODEL")
    weights: Literal["float16", "float32"] = Field(default="float16", description="type of the stored weights")
    embedding_layer: int = Field(
        default=-1, description="layer whose mean is the embedding; 0: the embeddings, -1: the last"
    )
    embedding_windows: int = Field(
        default=0,
        ge=0,
        description="windows by which a linear map from that layer to the teacher's embedding is fitted; 0: none",
    )
    embedding_ridge: Positive = Field(default=1e-3, description="ridge of that map, as a share of the mean variance")
    generator: bool = Field(default=True, description="add the generator; tied embeddings are not stored a second time")
    licence: str = Field(default="", description="licence of the model, for its card")


class PretrainConfig(Section):
    """All options of `rtdscan pretrain`."""

    start: str = Field(
        default="scratch",
        description="`scratch`, an ELECTRA model (bundle, directory, NAME@REVISION), the directory of a BERT-shaped "
        "encoder, or `package:NAME`, a Python package that holds one",
    )
    average: tuple[str, ...] = Field(
        default=(), description="more ELECTRA models of the same shape: training starts from the mean of the weights"
    )
    steps: int = Field(default=10_000, ge=0, description="steps of the optimiser; 0: only export the start")
    accumulate: int = Field(default=1, ge=1, description="batches of a step")
    dropout: Share = Field(default=0.1, description="dropout of both networks while training, attention included")
    seed: int = Field(default=0, ge=0, description="of everything random")
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto", description="of the arithmetic; weights are float32. auto: bfloat16 where the device has it"
    )
    threads: int | None = Field(default=None, ge=1, description="threads of the network on a CPU; default: all cores")
    compile: bool = Field(default=False, description="torch.compile; worth its minutes of start on a GPU")
    log_every: int = Field(default=50, ge=1, description="steps between lines of metrics")
    input: CorpusSettings = CorpusSettings()
    shape: ShapeSettings = ShapeSettings()
    vocabulary: VocabularySettings = VocabularySettings()
    generator: GeneratorSettings = GeneratorSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    corruption: MixtureSettings = MixtureSettings()
    feed: FeedSettings = FeedSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    export: ExportSettings = ExportSettings()


CHANGEABLE = frozenset(
    {"device", "threads", "compile", "feed.workers", "checkpoint.every", "checkpoint.keep", "input.license"}
)
"""Options that may differ when a run is resumed: they change how it is done, not (but for rounding) what comes out."""


def flat(config: Section) -> dict[str, Any]:
    """Every option by its dotted name, values as in JSON."""
    found: dict[str, Any] = {}

    def walk(values: dict[str, Any], prefix: str, section: Section) -> None:
        for key, value in values.items():
            inner = getattr(section, key)
            if isinstance(inner, Section):
                walk(value, f"{prefix}{key}.", inner)
            else:
                found[prefix + key] = value

    walk(config.model_dump(mode="json"), "", config)
    return found
