"""What is drawn of run folders: report, comparison, timeline, exports."""
