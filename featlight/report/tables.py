"""Tables for people, who open them in a spreadsheet."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def cell_text(words: str) -> str:
    """Words of a CSV cell that no spreadsheet takes for a formula; names come from whoever has made the run.

    Source: OWASP, "CSV Injection", https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{words}" if words.startswith(_FORMULA) else words
