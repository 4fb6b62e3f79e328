"""Options from every source."""
