"""Photo -> portrait -> face codes -> physical buffers. Knows nothing of diffusion."""
