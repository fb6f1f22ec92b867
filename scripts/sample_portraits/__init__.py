"""Renders the invented people whose portraits come with the product."""
