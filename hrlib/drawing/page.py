"""What HTML pages share: their style, their frame, and pictures that lie in the page itself."""

import base64
from html import escape

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
section { border-top: 1px solid #8886; margin-top: 3rem; }
img { width: 100%; background: white; border-radius: 6px; }
img.small { width: 75%; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-size: .9rem; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8883; vertical-align: top; }
.holds { color: #188038; } .fails { color: #c5221f; font-weight: bold; } .warn { color: #c5221f; }
.small { color: #777; font-size: .85rem; }
summary { cursor: pointer; }
"""


def html_page(title: str, body: str) -> bytes:
    """A whole HTML file around `body`, which is HTML already."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>{body}</html>\n'
    ).encode()


def embedded_picture(data: bytes, alt: str, kind: str = "png", style: str = "") -> str:
    """A picture file (`kind` png or gif) as an HTML element that needs no other file; style: a class of `STYLE`."""
    look = f' class="{style}"' if style else ""
    return f'<img{look} alt="{escape(alt)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'
