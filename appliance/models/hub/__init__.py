"""Models from a hub: which files of a repository are needed, and how they get here whole and verified."""
