"""Chest phantoms: radiographs that nobody had to be exposed for.

`render_phantom` makes one, `phantom.make` a data set.
"""

from phantom.render import Phantom, render_phantom

__all__ = ["Phantom", "render_phantom"]
