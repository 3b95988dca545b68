"""Stage `discover`: free-form judgments, clustered into a rubric per group."""
