"""The baseline: document scores by a discriminator in the shape that Beam's documentation shows.

ReadFromParquet, a Map that tokenises (padded and truncated to 512), RunInference with a KeyedModelHandler around a
PytorchModelHandlerKeyedTensor, WriteToParquet. After `apache_beam/examples/inference/pytorch_language_modeling.py`,
with sequences of one length as its handler needs them to be stacked. Nothing is tuned, nothing is left out.

    python -m benchmarks.stock state-dict MODEL MODEL.pt
    python -m benchmarks.stock run SAMPLE OUTPUT --model MODEL --state-dict MODEL.pt

SAMPLE has the columns `row` and `text`; `corpora.sample_rows` writes such files.
"""

import argparse
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import torch
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference
from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerKeyedTensor
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from transformers import AutoTokenizer, ElectraConfig, ElectraForPreTraining, PreTrainedTokenizerBase

LENGTH = 512

SCHEMA = pa.schema([("row", pa.int64()), ("tokens", pa.int64()), ("probability", pa.float64())])

Tensors = dict[str, torch.Tensor]


def tokenize(document: dict[str, Any], *, tokenizer: PreTrainedTokenizerBase) -> tuple[int, Tensors]:
    text = document["text"]
    encoded = tokenizer(text, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    return document["row"], {name: torch.squeeze(tensor) for name, tensor in dict(encoded).items()}


def document_score(result: tuple[int, PredictionResult]) -> dict[str, Any]:
    """Mean probability over the document's tokens, [CLS] and [SEP] left out."""
    row, prediction = result
    present = prediction.example["attention_mask"].bool()
    probabilities = torch.sigmoid(prediction.inference["logits"][present][1:-1])
    return {"row": row, "tokens": len(probabilities), "probability": float(probabilities.mean())}


def build(root: beam.Pipeline, sample: str, output: str, *, model: Path, state_dict: Path) -> None:
    """Add the pipeline to its root."""
    handler = PytorchModelHandlerKeyedTensor(
        state_dict_path=str(state_dict),
        model_class=ElectraForPreTraining,
        model_params={"config": ElectraConfig.from_pretrained(model)},
    )
    (
        root
        | "Read" >> beam.io.ReadFromParquet(sample)
        | "Tokenize" >> beam.Map(tokenize, tokenizer=AutoTokenizer.from_pretrained(model))
        | "Infer" >> RunInference(KeyedModelHandler(handler))
        | "Score" >> beam.Map(document_score)
        | "Write" >> beam.io.WriteToParquet(output, SCHEMA, file_name_suffix=".parquet")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    programs = parser.add_subparsers(dest="program", required=True)
    convert = programs.add_parser("state-dict", help="write a model's weights as the handler wants them")
    convert.add_argument("model", type=Path)
    convert.add_argument("state_dict", type=Path)
    run = programs.add_parser("run", help="run the pipeline")
    run.add_argument("sample")
    run.add_argument("output")
    run.add_argument("--model", type=Path, required=True)
    run.add_argument("--state-dict", type=Path, required=True)
    args = parser.parse_args()
    if args.program == "state-dict":
        torch.save(ElectraForPreTraining.from_pretrained(args.model, dtype=torch.float32).state_dict(), args.state_dict)
        return
    torch.set_num_threads(1)  # fewest CPU seconds a token
    with beam.Pipeline(runner=FnApiRunner()) as root:
        build(root, args.sample, args.output, model=args.model, state_dict=args.state_dict)


if __name__ == "__main__":
    main()
