"""The experiment store: runs on disk while they live and after, and SQL over everything the store holds."""
