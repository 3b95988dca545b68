"""Stage `select`: quality, and retention under a token budget."""
