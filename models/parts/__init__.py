"""Datasheets: every constant with value, unit, range, status and source."""
