"""The static site: lessons, walks, article, pages and API reference to open from disk."""
