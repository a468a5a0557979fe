"""The network, its schedule, loss and samplers. Knows nothing of faces: it sees nine condition channels."""
