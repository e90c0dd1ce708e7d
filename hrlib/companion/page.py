"""All figures with their claims and numbers on one HTML page, in one file that can be sent around."""

from html import escape
from pathlib import Path
from typing import Any

from ..drawing.page import embedded_picture, html_page
from ..support.files import write_bytes_atomically
from ..support.ground_truth import in_words
from .results import read_results


def write_page(folder: Path, out: Path) -> Path | None:
    """Write the page of the figures (<name>.json with <name>.png) in `folder`; None where there are none."""
    results = [result for result in read_results(folder) if (folder / f"{result['name']}.png").is_file()]
    if not results:
        return None
    links = " · ".join(f'<a href="#{escape(r["name"])}">{escape(r["name"])}</a>' for r in results)
    holding = [claim["holds"] for result in results for claim in result["claims"]]
    body = "".join(_section(result, folder / f"{result['name']}.png") for result in results)
    head = f"<h1>Figures</h1><p>{links}</p><p>{sum(holding)} of {len(holding)} claims hold.</p>"
    write_bytes_atomically(out, html_page("hrlib: figures", head + body))
    return out


def _section(result: dict, picture: Path) -> str:
    name, provenance = result["name"], result.get("provenance", {})
    commit = provenance.get("commit", {})
    origin = [
        f"profile {result.get('profile', '?')}",
        f"ground truth used: {in_words(provenance.get('ground_truth', '?'))}",
        f"seed {provenance.get('seed', '?')}",
        f"commit {str(commit.get('id', '?'))[:10]}{' with local changes' if commit.get('dirty') else ''}",
        str(provenance.get("date_utc", "")),
    ]
    claims = "".join(_claim_row(claim) for claim in result["claims"])
    head = "<tr><th>claim</th><th>paper</th><th>wanted</th><th>measured</th><th></th></tr>"
    numbers = "".join(
        f"<tr><td>{escape(key)}</td><td>{escape(number(value))}</td></tr>"
        for key, value in flat(result.get("metrics", {}))
    )
    return (
        f'<section id="{escape(name)}"><h2>{escape(name)}</h2>'
        + embedded_picture(picture.read_bytes(), name)
        + (f"<table>{head}{claims}</table>" if claims else "")
        + f"<details><summary>numbers</summary><table>{numbers}</table></details>"
        f'<p class="small">{escape(" · ".join(origin))}</p></section>'
    )


def _claim_row(claim: dict) -> str:
    cells = "".join(f"<td>{escape(number(claim[key]))}</td>" for key in ("claim", "paper", "target", "value"))
    verdict = '<td class="holds">holds</td>' if claim["holds"] else '<td class="fails">does not hold</td>'
    return f"<tr>{cells}{verdict}</tr>"


def flat(metrics: Any, name: str = "") -> list[tuple[str, Any]]:
    """Nested metrics as (address, value); long lists of numbers are left to the JSON file."""
    if isinstance(metrics, dict):
        return [row for key, value in metrics.items() for row in flat(value, f"{name}.{key}" if name else str(key))]
    if isinstance(metrics, list) and len(metrics) > 8:
        return [(name, f"{len(metrics)} values, see the JSON file")]
    return [(name, metrics)]


def number(value: Any) -> str:
    """A value as people read it: four significant digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(number(v) for v in value) if isinstance(value, list) else str(value)
