"""SAM and MobileSAM to bundles: models, their rewritten networks and the export."""

from samrefine_export.sam.export import export_sam, export_sam_module
from samrefine_export.sam.models import MODELS, load_sam, random_sam

__all__ = ["MODELS", "export_sam", "export_sam_module", "load_sam", "random_sam"]
