"""The control apps: everything on the public port that is not hot, and the admin API of the command line.

Nothing here is imported at the package's top: only the supervisor pays for Quart.
"""
