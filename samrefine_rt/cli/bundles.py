"""How commands open the bundle they are given."""

import click

from samrefine_runtime.bundle import Bundle


def open_bundle(name: str) -> Bundle:
    """Load a bundle and warn if its weights are random. Raises BundleError."""
    bundle = Bundle.load(name)
    if bundle.random_seed is not None:
        click.echo(
            f"Warning: {name} holds random weights (seed {bundle.random_seed}); "
            "its output means nothing",
            err=True,
        )
    return bundle
