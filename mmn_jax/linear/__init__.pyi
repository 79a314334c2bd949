from . import weighting as weighting
