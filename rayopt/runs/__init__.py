"""What a run leaves behind: its folder, its journal, and the cache that lets no finished step be done twice."""
