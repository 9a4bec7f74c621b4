"""The run folder: written while running, read by everything that looks at it."""
