"""Makes segment-anything importable where torchvision's compiled operators do not load."""

from __future__ import annotations

import samrefine_export.sam  # noqa: F401  (declares the operators before a test imports them)
