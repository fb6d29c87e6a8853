"""Published weights by name: which there are, where they lie once pulled, and their transfer.

Works without torch. `registry` says which weights there are, `cache` where they lie here, `pull`
gets them, `download` moves the bytes.
"""

from samrefine_export.weights.cache import checkpoint_path, weights_path
from samrefine_export.weights.registry import Weights, known_weights

__all__ = ["Weights", "checkpoint_path", "known_weights", "weights_path"]
