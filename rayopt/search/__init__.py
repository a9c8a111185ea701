"""Searching for parameters: scikit-learn's own searches, their cells evaluated by whoever is there to work."""
