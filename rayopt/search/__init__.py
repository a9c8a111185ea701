"""Hyper-parameter search without a place to run it: spaces, histories, a Gaussian process and what is built on them."""
