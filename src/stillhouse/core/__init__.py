"""Steps, artifacts and sessions: what a result is, the result on disk, and where and how it is made."""
