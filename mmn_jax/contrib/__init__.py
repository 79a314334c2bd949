"""Extensions of the method: small regressors, and training on mixed-shot episodes."""
