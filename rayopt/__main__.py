"""`python -m rayopt`: the console script where it is not on the path, as on the nodes of a cluster."""

from rayopt.cli import main

main()
