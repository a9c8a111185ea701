"""What to try when a job does not say: pure functions of the model's facts and of what was found so far."""
