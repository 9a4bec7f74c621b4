"""Workloads and datasheets."""
