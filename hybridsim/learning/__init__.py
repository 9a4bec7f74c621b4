"""What training computes: tasks, curvature, optimizers, and the work each costs."""
