"""Stage `group`: cluster the sources of each family."""
