"""CAM classifiers to bundles: architectures, custom networks and the export."""

from samrefine_export.cam.archs import SUPPORTED
from samrefine_export.cam.export import export_cam, export_cam_network
from samrefine_export.cam.networks import CamNetwork
from samrefine_runtime.class_names import read_classes

__all__ = ["SUPPORTED", "CamNetwork", "export_cam", "export_cam_network", "read_classes"]
