from . import mixed_shot as mixed_shot
from . import small_regressors as small_regressors
