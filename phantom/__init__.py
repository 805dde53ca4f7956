"""Chest phantoms: radiographs that nobody had to be exposed for. `render` makes one, `phantom.make` a data set."""

from phantom.render import Phantom, render

__all__ = ["Phantom", "render"]
