"""The HTTP API in FastAPI; knows neither Ray nor PyTorch."""
