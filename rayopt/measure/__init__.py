"""Measuring: how right a model is, how fast, and which of many are worth having."""
