"""Trains the released base rigs on a machine with a GPU, from nothing: `python -m drig.training.base`. Needs no Ray.

The recipe is `people` (who, and what the estimator makes of their portraits), `detection` (how far a detector's
landmarks are off) and `training`. `make base128` runs all of it; MODEL_CARD.md says with which numbers.
"""
