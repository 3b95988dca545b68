"""Read what an endpoint sends back: replies, usage, log-probabilities, finish reasons and errors."""
