"""Trains base rigs on one machine, with a GPU from nothing: `python -m drig.training.base`. Needs no Ray.

The recipe is `people` (who, and what the estimator makes of their portraits), `detection` (how far a detector's
landmarks are off), `painting` and `training`. The released base of 64 px began otherwise (`make base`, MODEL_CARD.md).
"""
