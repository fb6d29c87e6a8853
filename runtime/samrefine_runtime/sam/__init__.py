"""Segment Anything: image embeddings, prompts, and the masks they lead to."""
