"""What leaves the store for people: the report page, the folder of a run."""
