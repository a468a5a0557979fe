"""Verbs of the `drig` command that are not a pipeline's or a deployment's: their options, and what they print."""
