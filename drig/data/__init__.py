"""Photos, albums, synthetic portraits and the buffer store."""
