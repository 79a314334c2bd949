from . import bootstrap as bootstrap
from . import calibration as calibration
from . import label_prior as label_prior
from . import metrics as metrics
