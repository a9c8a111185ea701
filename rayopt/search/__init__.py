"""Searching for parameters: spaces and what to try next, scikit-learn's own searches, and who evaluates them."""
