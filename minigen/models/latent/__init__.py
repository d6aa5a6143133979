"""Models with a hidden cause z behind every x."""
