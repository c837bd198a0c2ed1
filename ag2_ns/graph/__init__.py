"""The anchor graph, lifting weights, the instance tree and language."""
