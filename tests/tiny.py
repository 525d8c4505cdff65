"""Builds tiny ELECTRA discriminators for tests, from a seed, without torch or transformers.

They know ASCII, some common English words and Chinese characters. Their weights are random, so what they say means
nothing, but it differs from word to word: about one word in five has a probability above .5.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from rtdscan.transforms.electra import parse_config, tensor_shapes

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

ENGLISH = """
a able about above across act add after again age ago air all almost along also always am among an and animal another
answer any appear are area around as ask at away back bad be became because bed been before began behind being best
better between big bird black blue boat body book both bottom box boy bring brought build built busy but by call came
can car care carry cat cause center certain change check children city class clear close cold color come common
complete contain corner could country course cover cross cut dark day decide deep did different do does dog done door
down draw dream drive dry during each early earth east easy eat end enough even evening ever every example eye face
fact fall family far farm fast father feel feet few field fill final find fine fire first fish five floor fly follow
food foot for force form found four free friend from front full game garden gave get girl give go gold good got great
green ground group grow had half hand happen hard has have he head hear heard heat help her here high him his hold
home horse hot hour house how hundred i idea if in inch interest into is island it its job just keep kind king knew
know land language large last late laugh lay lead learn least leave left less let letter life light like line list
listen little live long look lot love low machine made main make man many map mark may me mean men might mile mind
minute miss money moon more morning most mother mountain move much music must my name near need never new next night
no north note nothing notice now number object of off often oh old on once one only open or order other our out over
own page paper part pass people person picture piece place plain plan plant play point power problem product pull put
question quick quiet rain ran reach read ready real red remember rest right river road rock room round rule run said
same saw say school science sea second see seem self sentence serve set several she ship short should show side simple
since sing sit six size sleep slow small snow so some song soon sound south special stand star start state stay step
still stood stop story street strong study such sun sure system table take talk teach tell ten than that the their
them then there these they thing think this those though thought thousand three through time to today together told
too took top toward town travel tree true try turn two under unit until up us use usual very voice walk want war warm
was watch water way we week well went were west what wheel when where which while white who whole why will wind window
with wonder wood word work world would write wrong year yes yet you young your
"""

CHINESE = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同现当没动面起看定"
    "天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见"
    "被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何"
)

ENDINGS = """
##s ##ed ##ing ##ly ##er ##est ##al ##ion ##ness ##ment ##ies ##n ##t ##re ##th ##an ##in
"""

PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~“”‘’—–…。，、！？；：「」《》（）"


def tiny_vocabulary() -> dict[str, int]:
    """Piece -> id: special tokens first, then everything once."""
    characters = "abcdefghijklmnopqrstuvwxyz0123456789"
    continued = [f"##{letter}" for letter in characters]
    pieces = dict.fromkeys(
        [*SPECIAL, *characters, *continued, *PUNCTUATION, *ENGLISH.split(), *ENDINGS.split(), *CHINESE]
    )
    return {piece: at for at, piece in enumerate(pieces)}


def tiny_config(**changes: Any) -> dict[str, Any]:
    """config.json of a tiny discriminator; `changes` by their Hugging Face names."""
    config = {
        "architectures": ["ElectraForPreTraining"],
        "model_type": "electra",
        "vocab_size": len(tiny_vocabulary()),
        "embedding_size": 32,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": 0,
    }
    return config | changes


def tiny_weights(config: dict[str, Any], *, seed: int = 0, prefix: str = "electra.") -> dict[str, np.ndarray]:
    """Random weights by their Hugging Face names, float32."""
    random = np.random.default_rng(seed)
    weights = {}
    for name, size in tensor_shapes(parse_config(config, where=Path("tiny"))).items():
        array = random.normal(0.0, 0.2, size).astype(np.float32)
        if name.endswith("LayerNorm.weight"):
            array += 1
        if name.endswith("word_embeddings.weight"):
            array *= 10  # words differ more than positions
        if name.endswith((".bias", "token_type_embeddings.weight")):
            array *= 0.1  # little that all words have in common
        if name.endswith("dense_prediction.weight"):
            array *= 3
            array -= array.mean()
        if name.endswith("dense_prediction.bias"):
            array[:] = -1.5
        weights[name if name.startswith("discriminator") else f"{prefix}{name}"] = array
    return weights


def tiny_tokenizer() -> Tokenizer:
    """An uncased WordPiece tokenizer as of BERT."""
    vocabulary = tiny_vocabulary()
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    return tokenizer


def make_tiny_bundle(
    path: Path,
    *,
    seed: int = 0,
    window: int = 32,
    card: dict[str, Any] | None = None,
    plain: bool = False,
    prefix: str = "electra.",
    dtype: str = "float32",
    **config: Any,
) -> Path:
    """Write a bundle of a tiny discriminator.

    Args:
        path: Directory to make.
        seed: Of the weights; the same seed gives the same bytes.
        window: Of bundle.json; short, so that short texts need several.
        card: More fields of bundle.json.
        plain: Leave bundle.json out, as Hugging Face directories do.
        prefix: Of the encoder's tensor names.
        dtype: Type of the stored weights.
        config: Changes to config.json, by their Hugging Face names.

    Returns:
        The directory.
    """
    path.mkdir(parents=True, exist_ok=True)
    settings = tiny_config(**config)
    (path / "config.json").write_text(json.dumps(settings, indent=1))
    weights = tiny_weights(settings, seed=seed, prefix=prefix)
    save_file({name: array.astype(dtype) for name, array in weights.items()}, path / "model.safetensors")
    tiny_tokenizer().save(str(path / "tokenizer.json"))
    if not plain:
        fields = {"format": 1, "name": f"tiny-{seed}", "window": window, "lower_case": True}
        fields["calibration"] = {"intercept": 1e-9}  # next to nothing, but every scan would warn of none at all
        (path / "bundle.json").write_text(json.dumps(fields | (card or {}), indent=1))
    return path
