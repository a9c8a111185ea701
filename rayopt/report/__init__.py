"""Outcomes to rows to a page."""
