"""What pictures and pages have in common."""
