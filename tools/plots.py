#!/usr/bin/env python3
"""Draws the plots of docs/PERFORMANCE.md from what the benches print. Needs Python 3 and nothing else.

    cargo bench --all-features --bench attester > attester.csv
    cargo bench --all-features --bench verification > verification.csv
    python3 tools/plots.py attester.csv docs/attester-latency.svg
    python3 tools/plots.py verification.csv docs/verification-stages.svg

The first line of the input says which plot it is.
"""

import csv
import math
import sys
from html import escape

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 210, 30, 50
INK, GRID = "#444", "#ddd"
COLOURS = ["#0b6e4f", "#1f77b4", "#c1440e", "#8a6d3b", "#999999"]


class Svg:
    def __init__(self, height):
        # An own background and mid-grey ink: readable on light and dark pages.
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            'font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        ]

    def line(self, x1, y1, x2, y2, colour=GRID, dash=""):
        dash = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}"{dash}/>')

    def curve(self, points, colour, dash):
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        dash = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')

    def box(self, x, y, width, height, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')

    def text(self, x, y, text, anchor="start", colour=INK):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>')

    def finish(self):
        return "\n".join([*self.parts, "</svg>", ""])


def latency(rows):
    """p99 in device times against the number of clients, both axes logarithmic."""
    curves = {}
    for row in rows:
        name = (row["scheme"], f"{int(row['device_ms'])} ms")
        curves.setdefault(name, []).append((int(row["clients"]), float(row["device_times"])))
    most_clients = max(clients for points in curves.values() for clients, _ in points)
    top = 10 ** math.ceil(math.log10(max(value for points in curves.values() for _, value in points)))

    def x(clients):
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(clients) / math.log(most_clients)

    def y(value):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log10(max(value, 1)) / math.log10(top)

    svg = Svg(HEIGHT)
    svg.text(LEFT, 18, "Fresh evidence: p99 in device times, against clients at once")
    power = 1
    while power <= top:
        svg.line(LEFT, y(power), WIDTH - RIGHT, y(power))
        svg.text(LEFT - 8, y(power) + 4, f"{power:g}", "end")
        power *= 10
    for clients in sorted({clients for points in curves.values() for clients, _ in points}):
        svg.line(x(clients), TOP, x(clients), HEIGHT - BOTTOM)
        svg.text(x(clients), HEIGHT - BOTTOM + 18, f"{clients}", "middle")
    svg.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "clients", "middle")
    svg.line(LEFT, y(2.5), WIDTH - RIGHT, y(2.5), INK, "2 3")
    svg.text(WIDTH - RIGHT + 8, y(2.5) + 4, "goal: 2.5")
    schemes = list(dict.fromkeys(scheme for scheme, _ in curves))
    devices = list(dict.fromkeys(device for _, device in curves))
    for index, ((scheme, device), points) in enumerate(sorted(curves.items())):
        colour = COLOURS[schemes.index(scheme) % len(COLOURS)]
        dash = "" if device == devices[0] else "6 4"
        svg.curve([(x(clients), y(value)) for clients, value in sorted(points)], colour, dash)
        at = TOP + 14 + 18 * index
        svg.curve([(WIDTH - RIGHT + 14, at - 4), (WIDTH - RIGHT + 38, at - 4)], colour, dash)
        svg.text(WIDTH - RIGHT + 44, at, f"{scheme}, {device}")
    return svg.finish()


def stages(rows):
    """One bar for each platform and path, its stages one after another."""
    bars = {}
    for row in rows:
        bars.setdefault((row["platform"], row["path"]), []).append((row["stage"], max(float(row["us"]), 0)))
    longest = max(sum(us for _, us in parts) for parts in bars.values())
    names = list(dict.fromkeys(stage for parts in bars.values() for stage, _ in parts))
    colour = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(n for n in names if n != "the rest")}
    colour["the rest"] = "#bbbbbb"
    legend = 18 * len(names)
    height = TOP + 34 * len(bars) + legend + 30
    scale = (WIDTH - LEFT - 100) / longest
    svg = Svg(height)
    svg.text(LEFT, 18, "Verifying one report, microseconds by stage")
    for index, ((platform, path), parts) in enumerate(bars.items()):
        at, y = LEFT + 20, TOP + 34 * index
        svg.text(LEFT + 12, y + 18, f"{platform} {path}", "end")
        for stage, us in parts:
            svg.box(at, y + 4, us * scale, 20, colour[stage])
            at += us * scale
        svg.text(at + 6, y + 18, f"{sum(us for _, us in parts):.0f}")
    for index, name in enumerate(names):
        y = TOP + 34 * len(bars) + 20 + 18 * index
        svg.box(LEFT + 20, y - 10, 12, 12, colour[name])
        svg.text(LEFT + 40, y, name)
    return svg.finish()


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = sys.argv[1:]
    with open(source, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    plots = {"device_ms": latency, "platform": stages}
    plot = plots.get(next(iter(rows[0]), "") if rows else "")
    if plot is None:
        sys.exit(f"{source}: expected the output of the bench attester or verification")
    with open(target, "w", encoding="utf-8") as file:
        file.write(plot(rows))


if __name__ == "__main__":
    main()
