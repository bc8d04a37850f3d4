"""The report page, the numbers for DVC and the results as Markdown."""
