"""Datasheets: what a part costs, every constant with range, status and source."""
