"""The embedded demo model: procedural images, two small networks, and their training."""
