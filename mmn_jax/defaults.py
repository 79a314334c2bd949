"""The default hyperparameters, which the library and the settings of a run (`config.py`) share."""

RIDGES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)  # candidates for ℓ, for the mean loss
TOL, FINAL_TOL = 1e-5, 1e-6  # gradient norms of heads: while choosing, and at the end
BUDGET, FOLDS = 18, 3  # settings that a method may try; folds that choose where there is no validation set

TOP, MIN_CLASSES = 6, 20  # k runs over 1, 2, .., 2^TOP while so many classes have 2k examples
SUBSETS = (32, 16, 8)  # S at k = 1, 2, and 4 and above
BANK_L2, BANK_TOL = 1e-6, 1e-4  # ridge of a bank for the mean loss of the whole training set, and its heads' gradient norm

WIDTH = 32  # of a block's hidden layer
TASK_WEIGHTS, RATES, DECAYS = (0.1, 1.0), (1e-3,), (1e-2,)  # candidates for λ, the learning rate and the weight decay
STRENGTHS = (0.5, 0.75, 1.0)  # candidates for how much of the movement is applied
HELD_OUT = 0.2  # share of the classes that decide when the training of a level stops
BATCH, STEPS, EVERY, PATIENCE = (
    256,
    200,
    10,
    3,
)  # examples in the task loss; steps, evaluations every so many, and how long to wait for a better one
