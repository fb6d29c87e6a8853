"""Binary masks of one image, as run lengths."""
