"""The version of Lethe, which its four packages share."""

VERSION = "0.1.0"
