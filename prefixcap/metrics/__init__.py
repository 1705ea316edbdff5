"""Caption metrics; usable alone, without torch."""
