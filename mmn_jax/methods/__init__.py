"""Methods of long-tailed classification behind one contract: the paper's baselines, MetaModelNet, rivals, and `mmn`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
