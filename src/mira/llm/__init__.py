"""Ask any OpenAI-compatible endpoint: transport, retries, limits, replicas, cost and the journal. Knows no rubric."""
