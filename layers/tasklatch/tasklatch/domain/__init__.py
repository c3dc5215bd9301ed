"""The rules: statuses, the latch, verdicts and retries, as data and pure functions. No I/O."""
