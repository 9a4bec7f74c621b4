"""Studies: many scenarios, one question, an answer with its interval."""
