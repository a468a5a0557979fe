"""Trains the network that the `fit` estimator starts from, on synthetic portraits: `python -m drig.training.regressor`.

The recipe is `portraits` (who, in which poses), `variations` (what cameras and files do to a picture) and `training`;
the result is `drig/faces/assets/regressor.safetensors`.
"""
