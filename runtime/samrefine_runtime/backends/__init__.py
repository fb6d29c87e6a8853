"""What runs the graphs of a bundle: one file per inference engine."""
