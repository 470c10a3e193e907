"""Data sets of users: from the files of a declaration to data and streams; see suites.declared."""
