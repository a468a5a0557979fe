"""Who may do what: API keys, their limits, what may be uploaded."""
