"""The gradient alone, moved along by any optimizer."""
