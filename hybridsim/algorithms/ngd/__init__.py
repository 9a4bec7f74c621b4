"""Natural gradient descent without an analog part: what TNGD competes with."""
