"""Find the files of a source, tell their format, and read lines and tables in bounded memory."""
