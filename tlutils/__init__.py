"""Tools for learning, teaching and deciding transfer learning in computer vision.

Each module is one noun; `docs/architecture.md` has the picture. Importing this package imports nothing heavy:
write `from tlutils import models, data, surgery` for what you need.
"""

__version__ = "0.1.0"
