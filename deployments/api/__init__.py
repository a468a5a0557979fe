"""The HTTP API: FastAPI, knows neither Ray nor PyTorch."""
