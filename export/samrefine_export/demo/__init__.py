"""The embedded demo model: procedural photographs, two small networks, and their training."""
