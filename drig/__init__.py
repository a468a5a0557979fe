"""drig: personalised, physically controlled portrait editing at scale."""

__version__ = "0.1.0"
