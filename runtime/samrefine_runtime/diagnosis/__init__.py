"""Whether a bundle runs on this machine, what it gives there and how fast."""
