"""One training loop for both stages. Plain PyTorch: it runs without Ray."""
