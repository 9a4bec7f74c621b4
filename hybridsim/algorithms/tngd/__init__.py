"""Thermodynamic natural gradient descent (TNGD, arXiv 2405.13817)."""
