"""Bringing other people's folders and archives in: found, checked, placed, recorded."""
