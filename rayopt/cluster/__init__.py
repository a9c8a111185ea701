"""A cluster from outside: its file, its hosts over ssh, its token, and what rayopt has started on it; without Ray."""
