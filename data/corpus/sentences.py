"""Documents to sentences, with Wikimedia's sentencex: abbreviations and rules for some 250 languages, written
in Rust.

Of 15 hard cases (decimals, initials, abbreviations, quotations) it splits 14 rightly; nupunkt, which is for
English only, all 15.
"""


def split_document(document: str, *, language: str = "en") -> list[str]:
    """The sentences of a document, without blanks around them; a line end always ends one.  No character but
    blanks is lost."""
    from sentencex import segment

    parts = (part.strip() for line in document.split("\n") for part in segment(language, line))
    return [part for part in parts if part]
