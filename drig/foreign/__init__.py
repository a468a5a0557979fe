"""Files of other programs, read as data: nothing that they name is imported or called, and damage is a DrigError.

`pickles` holds the one unpickler; everything that contains a pickle (PyTorch's files, .npy) goes through it.
"""
