"""The form that asks for the token: it says what was wrong, and knows the page that was asked for."""

import re

# The page's own addresses; what else a request names, the first page is shown for.
ADDRESS = re.compile(r"/|/s/[A-Za-z0-9_.%-]{1,200}(\?kiosk)?")


def page_address(text: str) -> str:
    """Where to go once somebody has signed in: never away from this page."""
    return text if ADDRESS.fullmatch(text) else "/"


def sign_in_form(login: str, wanted: str, words: str = "") -> str:
    """`login.html` with the address that is wanted, and what was wrong with the last try."""
    return login.replace("WANTED", page_address(wanted)).replace("WORDS", words)
