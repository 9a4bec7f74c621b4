"""What the user asks: schema, loading and datasheets."""
