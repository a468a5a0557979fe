"""Bakes the open head, drig/faces/assets/open_head.npz: `python -m drig.faces.bake_open_head` (see __main__)."""
