"""Albums: one person's photos as portraits: loading, measuring, judging and building them.

    album = load_album("photos/ann", detector, 256)
    check = examine(album, codes, head, IdentityEmbedder())
    check.passes, [verdict.text for verdict in check.verdicts]

`loading` reads what is there; `building` makes an album out of any photos and videos; `doctor` says what is wrong with
one before time is spent on training it.
"""

from drig.data.albums.loading import FEWEST, WANTED, Album, load_album

__all__ = ["FEWEST", "WANTED", "Album", "load_album"]
