"""Features and labels: read from files, checked, brought to common units, and split into a long tail."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
