"""Torch-free inference of SAM everything mode, CAM and SEPL refinement from exported graphs."""
