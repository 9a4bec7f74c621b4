"""What the shipped studies found, and the script that writes their pages."""
