"""The static site: walks, lessons, article, pages and API reference, in a folder to open from disk.

No page makes a request to a server; `minise site build FOLDER` writes it.
"""
