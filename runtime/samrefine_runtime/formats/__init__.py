"""Files in and out: label maps, masks, annotations, image-level labels."""
