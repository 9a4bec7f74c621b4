"""Pictures of the pages, and the scripts that draw them."""
