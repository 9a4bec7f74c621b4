"""Readers of run folders: reports, timelines, figures."""
