"""Chest phantoms: computed radiographs, for which nobody was exposed to X-rays.

`render_phantom` makes one, `phantom.make` a data set.
"""

from phantom.render import Phantom, render_phantom

__all__ = ["Phantom", "render_phantom"]
