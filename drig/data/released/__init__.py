"""The released implementation's models and data sets, to drig's files and back, with the same numbers (SPEC 8)."""
