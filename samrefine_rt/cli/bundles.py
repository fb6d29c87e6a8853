"""Opening the bundle a command was given."""

import click

from samrefine_runtime.bundle import Bundle
from samrefine_runtime.errors import printable


def open_bundle(name: str, *, is_suited: bool = False) -> Bundle:
    """Load a bundle, with a warning where its output may mislead.

    Args:
        name: folder of the bundle, or the name of an embedded one.
        is_suited: whether the images are known to be what the bundle was made for.

    Raises:
        BundleError: the bundle is not sound.
    """
    bundle = Bundle.load(name)
    if bundle.random_seed is not None:
        warn(f"{name} holds random weights (seed {bundle.random_seed}); its output means nothing")
    caution = bundle.manifest.get("caution")
    if caution and not is_suited:
        warn(f"{name}: {' '.join(caution.split())}")
    return bundle


def warn(message: str) -> None:
    """Show a warning, one line on stderr."""
    click.echo(f"Warning: {printable(message)}", err=True)
