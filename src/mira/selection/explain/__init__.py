"""Why a record is kept or not, what is wrong with a rejected line, and where a text is."""
