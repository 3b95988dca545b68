"""Stage `reliability`: test each (source, slot) cell on held-out labels and mask what fails."""
