"""The measured figures as they are shown: a table and a picture in ``docs``."""

from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
BAR_PX, ROW_PX, LABEL_PX = 440, 30, 240


def write(rates: dict[str, float], ours: str, limit: str) -> None:
    """``rates`` are files/s by name; the peers' order is by rate, the limit comes last."""
    order = [*sorted((name for name in rates if name != limit), key=lambda name: -rates[name]), limit]
    rows = [
        f"| {_bold(name, name == ours)} | {rates[name]:,.0f} | {rates[name] / rates[ours]:.2f} |\n"
        for name in order
    ]
    table = "| | files/s | of ours |\n|---|---:|---:|\n" + "".join(rows)
    page = DOCS / "performance.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    page.write_text(before + BEGIN + table + END + rest.partition(END)[2], encoding="utf-8")
    (DOCS / "performance.svg").write_text(
        picture([(name, rates[name]) for name in order], ours), encoding="utf-8"
    )


def _bold(name: str, yes: bool) -> str:
    return f"**{name}**" if yes else name


def picture(bars: list[tuple[str, float]], ours: str) -> str:
    """Bars, the longest as wide as the picture allows."""
    most = max(rate for _, rate in bars)
    lines: list[str] = []
    for number, (name, rate) in enumerate(bars):
        y, width = 10 + number * ROW_PX, BAR_PX * rate / most
        colour = "#0f766e" if name == ours else "#94a3b8"
        lines.append(
            f'<text x="{LABEL_PX - 8}" y="{y + 15}" text-anchor="end">{name}</text>'
            f'<rect x="{LABEL_PX}" y="{y}" width="{width:.0f}" height="20" rx="3" fill="{colour}"/>'
            f'<text x="{LABEL_PX + width + 6:.0f}" y="{y + 15}">{rate:,.0f}</text>'
        )
    width, height = LABEL_PX + BAR_PX + 70, 20 + len(bars) * ROW_PX
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13" fill="#64748b">'
        "<title>Files per second, every acknowledged write synced</title>" + "".join(lines) + "</svg>\n"
    )
