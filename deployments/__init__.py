"""The Ray Serve app and what deploys it."""
