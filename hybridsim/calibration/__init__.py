"""Measuring a device, fitting a datasheet to it, and holding its predictions against traces."""
