"""What natural gradient descent linearizes, and its exact solution."""
