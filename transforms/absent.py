"""Keep packages out of a process that would import them without using them.

Where they are installed, `apache_beam.ml.inference` imports torch and scipy, 250 MB and 3 s a worker whichever engine
runs, and `apache_beam.typehints` and `pyarrow.dataset` import pandas, 30 MB and 0.4 s. `apache_beam.io` imports
pymongo, and `openvino` its converter of models, 0.1 s each.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


@dataclass(frozen=True)
class _Absent(MetaPathFinder):
    """Finds nothing, and says so before other finders are asked."""

    names: tuple[str, ...]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if any(fullname == name or fullname.startswith(f"{name}.") for name in self.names):
            raise ModuleNotFoundError(f"No module named {fullname!r} (kept out of this process)", name=fullname)
        return None


def keep_out(*names: str) -> None:
    """Make packages, or parts of them, look as if they were not installed, in this process from now on; those already
    imported stay.

    Only for processes that run nothing but this program: never call it in a user's. Again it does nothing.
    """
    absent = _Absent(names)
    if names and absent not in sys.meta_path:
        sys.meta_path.insert(0, absent)
