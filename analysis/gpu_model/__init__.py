"""The GPU model against public measurements."""
