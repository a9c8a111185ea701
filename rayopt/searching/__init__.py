"""The runs of the kind `search`: of an estimator's parameters (`run`), and of a whole job's fields (`jobs`)."""
