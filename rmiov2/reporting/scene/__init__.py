"""An episode whole: maps, moments, attention, what was believed."""
