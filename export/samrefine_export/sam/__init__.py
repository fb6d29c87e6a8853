"""SAM and MobileSAM to bundles."""

from samrefine_export.sam.export import (
    MODELS,
    export_sam,
    export_sam_module,
    load_sam,
    random_sam,
)

__all__ = ["MODELS", "export_sam", "export_sam_module", "load_sam", "random_sam"]
