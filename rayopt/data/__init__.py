"""Data: read from where the job says, checked, and split so that what chooses a model never grades it."""
