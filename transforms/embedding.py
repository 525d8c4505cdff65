"""From the hidden states of a document to its embedding.

A discriminator's hidden states tell errors apart, not subjects: as they are, any two documents have nearly the same
mean (cosine .82 in the middle layers of the bundled model, .99 in its last). So a bundle may bring a linear map, fitted
by `rtdscan pretrain` (`export.embedding_windows`) to a sentence encoder's embeddings of the same windows: one forward
pass gives verdicts and embeddings, and the weights that find errors stay as they are.

Key: U documents, D hidden.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from rtdscan.transforms.errors import UserError

EMBEDDING_FILE = "embedding.safetensors"


@dataclass(frozen=True, slots=True)
class EmbeddingMap:
    """embedding = (mean hidden state - mean_D) @ weight_DD, then normalised.

    Attributes:
        mean_D: The mean of many windows.
        weight_DD: The map.
    """

    mean_D: NDArray[np.float32]
    weight_DD: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write EMBEDDING_FILE, in float16."""
        arrays = {"mean": self.mean_D.astype(np.float16), "weight": self.weight_DD.astype(np.float16)}
        path.write_bytes(safetensors.numpy.save(arrays))

    @staticmethod
    def read(path: Path, *, dims: int) -> "EmbeddingMap | None":
        """Of a bundle's directory; None where it has none.

        Raises:
            UserError: The file is damaged or of another network.
        """
        where = path / EMBEDDING_FILE
        if not where.is_file():
            return None
        try:
            found = safetensors.numpy.load(where.read_bytes())
        except SafetensorError as error:
            raise UserError(f"{where}: is not a safetensors file that can be read ({error})") from error
        shapes = {name: array.shape for name, array in found.items()}
        if shapes != {"mean": (dims,), "weight": (dims, dims)}:
            raise UserError(
                f"{where}: holds {shapes}, but the network has {dims} dimensions: expected mean [{dims}] and weight "
                f"[{dims}, {dims}]; remove the file, or make it again with `rtdscan pretrain`"
            )
        return EmbeddingMap(found["mean"].astype(np.float32), found["weight"].astype(np.float32))


def embeddings(
    sum_UD: NDArray[np.float32], tokens_U: NDArray[np.int64], mapped: EmbeddingMap | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Embeddings of documents.

    Args:
        sum_UD: Hidden states, added over the document's tokens.
        tokens_U: How many they are.
        mapped: The bundle's map, where it has one.

    Returns:
        unit_UD, L2-normalised, and which rows are: not those without tokens, or without a direction.
    """
    vector_UD = sum_UD
    if mapped is not None:
        mean_UD = sum_UD / np.maximum(tokens_U, 1)[:, None].astype(np.float32) - mapped.mean_D
        # A row at a time, not by numpy's library: a document's numbers must not depend on how many others there are.
        rows = [np.einsum("d,de->e", mean_D, mapped.weight_DD) for mean_D in mean_UD]
        vector_UD = np.array(rows, np.float32).reshape(sum_UD.shape)
    norm_U = np.sqrt(np.einsum("ud,ud->u", vector_UD, vector_UD, dtype=np.float64))
    return vector_UD / np.maximum(norm_U, 1e-30)[:, None], (tokens_U > 0) & (norm_U > 0)
