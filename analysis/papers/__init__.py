"""One script per claim of the papers."""
