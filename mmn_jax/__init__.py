"""MetaModelNet in JAX: long-tailed recognition over frozen features.

    from mmn_jax import TailClassifier

    model = TailClassifier(random_state=0).fit(X, y)  # features [n, d], any labels
    model.predict(X_new), model.predict_proba(X_new)

The public names; help(mmn_jax.NAME) describes one:

    a classifier        TailClassifier, for scikit-learn; BadInput, the error that it raises
    data                data (feature files, long tails), Examples, Normalised, FeatureSet, LongTail, normalisation, Normalisation
    the paper's method  fit_bank, fit_metamodelnet, transfer_rows; shot_ladder, residual_chain, Bank, LevelSet, LevelReport, Hyper,
                        Schedule, Evaluation, held_out_classes
    your own regressor  Regressor, RegressorSpec, Context, make_context, rows_alone, rows_and_model, entry_level; contrib
    heads               fit_head, fit_batch, HeadProblem, HeadInfo, warn_unless_converged, weighting, Weighting, predict_logits, centred,
                        subtract_log_prior
    mmn                 fit_mmn; class_model, ClassModel, Shrinkage, class_means, bayesian_rows
    all methods         methods (the contract, tuning, diagnosis), defaults
    evaluation          metrics, calibration, label_prior

Names are loaded when they are first used: `import mmn_jax` by itself loads neither JAX nor scikit-learn.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
