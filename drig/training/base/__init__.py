"""Trains base rigs on a machine with a GPU, from nothing: `python -m drig.training.base`. Needs no Ray.

The recipe is `people` (who, and what the estimator makes of their portraits), `detection` (how far a detector's
landmarks are off) and `training`. The released base of 64 px is older, and `make base`'s (MODEL_CARD.md).
"""
