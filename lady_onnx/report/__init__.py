"""Reports to keep: what a result rests on, and a page that an auditor reads."""
