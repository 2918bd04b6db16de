#!/usr/bin/env python3
"""Draws the pictures of docs/sql.md: `python3 docs/pictures/draw.py` rewrites every *.svg beside it. No packages needed.

Each picture is a light card with a border, so that it reads the same on a light and on a dark page. Times are seconds.
"""

from pathlib import Path
from xml.sax.saxutils import escape

INK, SOFT, RULE, CARD = "#1f2328", "#59636e", "#d0d7de", "#ffffff"
BLUE, GREEN, AMBER, RED, VIOLET = "#0969da", "#1a7f37", "#9a6700", "#cf222e", "#8250df"
FILL = {BLUE: "#ddf4ff", GREEN: "#dafbe1", AMBER: "#fff8c5", RED: "#ffebe9", VIOLET: "#fbefff", SOFT: "#f6f8fa"}
WIDTH = 760
SECOND, MINUTE, HOUR = 1, 60, 3600


def clock(seconds, with_seconds=None):
    hours, rest = divmod(int(seconds), HOUR)
    minutes, seconds = divmod(rest, MINUTE)
    show = seconds if with_seconds is None else with_seconds
    return f"{hours:02}:{minutes:02}" + (f":{seconds:02}" if show else "")


class Picture:
    """One card; `span` is the stretch of time that its width shows between `left` and `right`."""

    def __init__(self, name, title, about, height, span=(0, 1), left=30, right=WIDTH - 30):
        self.name, self.title, self.about, self.height = name, title, about, height
        self.span, self.left, self.right = span, left, right
        self.parts = []

    def x(self, time):
        start, end = self.span
        return round(self.left + (time - start) / (end - start) * (self.right - self.left), 1)

    def text(self, x, y, words, color=INK, anchor="start", size=13, weight="", mono=False):
        more = (f' font-weight="{weight}"' if weight else "") + (' class="m"' if mono else "")
        self.parts.append(
            f'<text x="{x}" y="{y}" fill="{color}" text-anchor="{anchor}" font-size="{size}"{more}>{escape(words)}</text>'
        )

    def line(self, x1, y1, x2, y2, color=RULE, width=1, dashed=False):
        dash = ' stroke-dasharray="3 3"' if dashed else ""
        self.parts.append(
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{color}" stroke-width="{width}"{dash}/>'
        )

    def path(self, points, color, width=2):
        d = "M" + " L".join(f"{x} {y}" for x, y in points)
        self.parts.append(f'<path d="{d}" fill="none" stroke="{color}" stroke-width="{width}"/>')

    def rect(self, x, y, width, height, color, rounded=0):
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{round(width, 1)}" height="{height}" rx="{rounded}" fill="{color}"/>'
        )

    def dot(self, x, y, color=INK, hollow=False, radius=5):
        fill, stroke = (CARD, color) if hollow else (color, CARD)
        self.parts.append(
            f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{fill}" stroke="{stroke}" stroke-width="{2 if hollow else 1}"/>'
        )

    def axis(self, y, ticks, top, label=clock):
        """A time line with a mark and a rule upwards at every tick."""
        for tick in ticks:
            self.line(self.x(tick), top, self.x(tick), y, RULE)
            self.line(self.x(tick), y, self.x(tick), y + 5, SOFT)
            self.text(self.x(tick), y + 19, label(tick), SOFT, "middle", 12)
        self.line(self.left, y, self.right, y, SOFT)

    def window(self, start, end, y, color, words, height=24, open_left=False, open_right=False):
        """A half-open bar: a solid left edge, which belongs to it, and a dashed right one, which does not."""
        low, high = max(start, self.span[0]), min(end, self.span[1])
        x1, x2 = self.x(low), self.x(high)
        self.rect(x1, y, x2 - x1, height, FILL[color])
        if not open_left:
            self.line(x1, y, x1, y + height, color, 3)
        if not open_right:
            self.line(x2, y, x2, y + height, color, 1.5, dashed=True)
        self.text((x1 + x2) / 2, y + height / 2 + 4.5, words, color, "middle", 12)

    def write(self):
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" '
            f'height="{self.height}" role="img" aria-labelledby="t d">\n'
            f'<title id="t">{escape(self.title)}</title>\n<desc id="d">{escape(self.about)}</desc>\n'
            "<style>text{font-family:-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}"
            ".m{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}</style>\n"
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{self.height - 1}" rx="8" fill="{CARD}" stroke="{RULE}"/>\n'
        )
        text = head + "\n".join(self.parts) + "\n</svg>\n"
        (Path(__file__).parent / f"{self.name}.svg").write_text(text)


NOON = 12 * HOUR
# Purchases: time and US dollars.
ROWS = [(NOON + 10, 10), (NOON + 40, 5), (NOON + 60, 20), (NOON + 140, 8), (NOON + 170, 12), (NOON + 250, 3)]


def totals(start, end):
    inside = [dollars for time, dollars in ROWS if start <= time < end]
    return f"{len(inside)} row{'s' if len(inside) != 1 else ''}, ${sum(inside)}"


def rows(picture, y):
    for time, dollars in ROWS:
        picture.dot(picture.x(time), y)
        picture.text(picture.x(time), y - 10, f"${dollars}", INK, "middle", 12)


def tumble():
    about = "Six purchases on a time line fall into half-open windows of one minute; the one at 12:01:00 exactly belongs to the second; the empty fourth gives no row."
    p = Picture("tumble", "TUMBLE: windows of one minute", about, 178, (NOON, NOON + 5 * MINUTE), 40, 720)
    p.text(20, 26, "TUMBLE(transactions, event_time, INTERVAL '1 minute')", mono=True)
    p.axis(124, [NOON + n * MINUTE for n in range(6)], 68)
    for number in range(5):
        start = NOON + number * MINUTE
        empty = number == 3
        p.window(start, start + MINUTE, 44, SOFT if empty else BLUE, "no row" if empty else totals(start, start + MINUTE))
    rows(p, 108)
    p.text(20, 166, "12:01:00 exactly is in [12:01, 12:02): a start belongs to its window, an end to the next.", SOFT, size=12)
    p.write()


def hop():
    about = "Windows of three minutes begin every minute, so each of six purchases is counted by three of them."
    p = Picture("hop", "HOP: windows of three minutes, one beginning every minute", about, 334, (NOON - 2 * MINUTE, NOON + 7 * MINUTE), 40, 720)
    p.text(20, 26, "HOP(transactions, event_time, INTERVAL '1 minute', INTERVAL '3 minutes')", mono=True)
    p.axis(278, [NOON + n * MINUTE for n in range(-2, 8)], 44)
    for number in range(7):
        start = NOON + (number - 2) * MINUTE
        p.window(start, start + 3 * MINUTE, 44 + number * 27, [BLUE, VIOLET, GREEN][number % 3], totals(start, start + 3 * MINUTE), 22)
    rows(p, 262)
    p.text(20, 322, "Every row is folded once, into its minute; a window adds three minutes up when it closes.", SOFT, size=12)
    p.write()


def cumulate():
    about = "Windows of a cycle of four minutes share their start and end one minute later each; with the next cycle they begin anew."
    p = Picture("cumulate", "CUMULATE: up to four minutes in steps of one", about, 334, (NOON, NOON + 8 * MINUTE), 40, 720)
    p.text(20, 26, "CUMULATE(transactions, event_time, INTERVAL '1 minute', INTERVAL '4 minutes')", mono=True)
    p.axis(228, [NOON + n * MINUTE for n in range(9)], 44)
    for cycle, color in [(0, BLUE), (1, GREEN)]:
        start = NOON + cycle * 4 * MINUTE
        for step in range(1, 5):
            p.window(start, start + step * MINUTE, 44 + (step - 1) * 30, color, totals(start, start + step * MINUTE), 24)
    rows(p, 212)
    p.text(20, 276, "A row counts in every window of its cycle that has not ended at its time: $20 at 12:01:00 in three of four.", SOFT, size=12)
    p.text(20, 296, "A window in which nothing new happened still gives its row, as long as its cycle has one.", SOFT, size=12)
    p.text(20, 316, "The end of the last window of a cycle is the start of the next cycle.", SOFT, size=12)
    p.write()


def session():
    about = "Sessions of two cards with a gap of one minute. A purchase exactly one minute after the last joins; one 80 seconds later begins a new session."
    p = Picture("session", "SESSION: a gap of one minute, by card", about, 262, (NOON, NOON + 4 * MINUTE + 20), 80, 720)
    p.text(20, 26, "SESSION(transactions, event_time, INTERVAL '1 minute', card_token)", mono=True)
    lanes = [("card A", BLUE, 44, [[10, 40, 100], [180]]), ("card B", GREEN, 124, [[70, 90]])]
    p.axis(204, [NOON + n * MINUTE for n in range(5)], 44)
    for card, color, y, sessions in lanes:
        p.text(20, y + 40, card, color, weight="600")
        for times in sessions:
            start, end = NOON + times[0], NOON + times[-1] + MINUTE
            p.window(start, end, y, color, f"{clock(start, True)} to {clock(end, True)}")
            p.line(p.x(NOON + times[-1]), y + 40, p.x(end), y + 40, color, 1, dashed=True)
            p.text((p.x(NOON + times[-1]) + p.x(end)) / 2 + 4, y + 54, "gap", color, "middle", 11)
            for time in times:
                p.dot(p.x(NOON + time), y + 40, color)
    p.text(20, 250, "window_end is the last row + gap. The row at 12:01:40 is exactly a gap after the one at 12:00:40: it joins.", SOFT, size=12)
    p.write()


def days():
    about = "Days of New York as half-open windows in UTC: 23 hours on 10 March 2019, 25 hours on 3 November 2019."
    p = Picture("days", "TUMBLE by days of New York, when clocks change", about, 256, (0, 1), 30, 730)
    p.text(20, 26, "TUMBLE(transactions, event_time, INTERVAL '1 day', 'America/New_York')", mono=True)
    for y, begin, lengths, names, odd in [
        (62, 5, [24, 23, 24], ["9 March", "10 March", "11 March"], 1),
        (156, 4, [24, 25, 24], ["2 November", "3 November", "4 November"], 1),
    ]:
        p.span = (begin - 3, begin + 76)
        start = begin
        p.line(p.left, y + 34, p.right, y + 34, SOFT)
        for number, (length, name) in enumerate(zip(lengths, names)):
            p.window(start, start + length, y, AMBER if number == odd else BLUE, f"{name}: {length} hours", 26)
            start += length
        mark = begin
        for length in [0] + lengths:
            mark += length
            p.line(p.x(mark), y + 34, p.x(mark), y + 39, SOFT)
            p.text(p.x(mark), y + 53, f"{mark % 24:02}:00Z", SOFT, "middle", 12)
    p.text(20, 244, "Local midnight is 05:00 UTC in winter and 04:00 UTC in summer. window_start and window_end are UTC instants.", SOFT, size=12)
    p.write()


def watermark():
    about = "Rows by arrival and event time. The watermark follows the greatest event time ten seconds behind. At commit 3 it has passed 12:01:00 by the allowed lateness: the first minute closes, and a row of it that arrives after that commit is late."
    p = Picture("watermark", "Watermark, closing and a late row", about, 376, (0, 6.4), 86, 690)
    low, high, top, bottom = NOON, NOON + 3 * MINUTE, 58, 312

    def y(time):
        return round(bottom - (time - low) / (high - low) * (bottom - top), 1)

    p.text(20, 26, "out_of_orderness = 10s, allowed_lateness = '10 seconds'", mono=True)
    for number, closes_at in [(0, 3), (1, 6), (2, None)]:
        above, below = y(low + (number + 1) * MINUTE), y(low + number * MINUTE)
        p.rect(p.left, above, p.right - p.left, below - above, FILL[BLUE] if number % 2 == 0 else "#eef6fc")
        if closes_at:
            p.rect(p.x(closes_at), above, p.right - p.x(closes_at), below - above, "#eaeef2")
            p.text(p.right - 6, below - 6, f"closed at commit {closes_at}", SOFT, "end", 11)
        p.text(78, below + 4, clock(low + number * MINUTE), SOFT, "end", 12)
    p.text(78, top + 4, clock(high), SOFT, "end", 12)
    p.text(20, 46, "event time", SOFT, size=12)
    for commit in range(1, 7):
        p.line(p.x(commit), top, p.x(commit), bottom, SOFT, 1, dashed=True)
        p.text(p.x(commit), bottom + 17, f"commit {commit}", SOFT, "middle", 12)
    arrivals = [(0.3, 20, ""), (0.7, 50, ""), (1.3, 65, ""), (1.7, 57, "disorder"), (2.4, 85, ""), (3.4, 55, "late"), (3.7, 68, ""), (4.4, 130, ""), (5.4, 160, "")]
    greatest, points = None, []
    for x, time, _ in arrivals:
        if greatest is not None:
            points.append((p.x(x), y(low + greatest - 10)))
        greatest = time if greatest is None else max(greatest, time)
        points.append((p.x(x), y(low + greatest - 10)))
    points.append((p.right, y(low + greatest - 10)))
    p.path(points, AMBER)
    p.text(p.right - 4, y(low + greatest - 10) - 6, "watermark", AMBER, "end", 12, "600")
    for x, time, kind in arrivals:
        if kind == "late":
            p.dot(p.x(x), y(low + time), RED)
            p.text(p.x(x) + 9, y(low + time) + 13, "late: kept, marked, counted", RED, size=12)
        else:
            p.dot(p.x(x), y(low + time))
            if kind:
                p.text(p.x(x) - 22, y(low + time) + 24, "out of order, on time", INK, "start", 12)
    p.text(20, 350, "At commit 3 the watermark is 12:01:15, which is 12:01:00 and more than 10 seconds: the first minute closes.", SOFT, size=12)
    p.text(20, 367, "The row of 12:01:08 that arrives after the late one is behind the watermark, too, and on time: its window is open.", SOFT, size=12)
    p.write()


def cascade():
    about = "Closed rows of a view over minutes fall into the windows of a view over hours; its watermark is what the minutes have closed."
    p = Picture("cascade", "A view over windows, read by another", about, 250, (0, 1), 110, 730)
    p.span = (NOON + 56 * MINUTE, NOON + 66 * MINUTE)
    p.text(20, 26, "TUMBLE(city_minute, window_start, INTERVAL '1 hour')", mono=True)
    p.text(20, 70, "city_minute", BLUE, weight="600")
    for minute in range(56, 66):
        start = NOON + minute * MINUTE
        closed = minute < 62
        p.window(start, start + MINUTE, 54, BLUE if closed else SOFT, "closed" if closed else "open")
        if closed:
            p.dot(p.x(start), 112, BLUE)
            p.line(p.x(start), 82, p.x(start), 106, BLUE, 1, dashed=True)
    p.text(20, 116, "its rows", BLUE, weight="600")
    p.text(20, 154, "city_hour", GREEN, weight="600")
    p.window(NOON, NOON + HOUR, 138, GREEN, "[12:00, 13:00) has closed", open_left=True)
    p.window(NOON + HOUR, NOON + 2 * HOUR, 138, SOFT, "[13:00, 14:00) is open", open_right=True)
    until = p.x(NOON + 62 * MINUTE)
    p.line(until, 46, until, 128, AMBER, 2)
    p.text(until + 5, 124, "closed_until of city_minute", AMBER, size=12)
    p.axis(196, [NOON + minute * MINUTE for minute in range(56, 67)], 196)
    p.text(20, 240, "A row's time is its window_start: the minute [12:59, 13:00) belongs to the hour that ends at 13:00.", SOFT, size=12)
    p.write()


def lookup():
    about = "Each epoch joins the version of the looked-up table that was newest at the commit before it. A restart joins the rows of an epoch with that epoch's version again; a batch run joins all of them with the newest."
    p = Picture("lookup", "Which version of a table an epoch's rows are joined with", about, 268, (0, 4), 130, 730)
    p.text(20, 26, "FROM transactions AS t JOIN card_day AS h ON h.card_token = t.card_token", mono=True)
    versions = [(0, 2, "version 7", BLUE), (2, 3, "version 8", GREEN), (3, 4, "version 9", VIOLET)]
    p.text(20, 74, "card_day", weight="600")
    for start, end, words, color in versions:
        p.window(start, end, 58, color, words)
    p.text(20, 124, "epochs", weight="600")
    colors = [BLUE, BLUE, GREEN, VIOLET]
    for number, color in enumerate(colors):
        for place in (0.2, 0.45, 0.75):
            p.dot(p.x(number + place), 118, color)
        p.text(p.x(number + 0.5), 142, f"epoch {40 + number}", SOFT, "middle", 12)
        p.line(p.x(number), 50, p.x(number), 150, SOFT, 1, dashed=True)
    p.text(20, 180, "restart", weight="600")
    for number, color in enumerate(colors):
        p.rect(p.x(number) + 4, 166, p.x(1) - p.x(0) - 8, 20, FILL[color], 3)
        p.text(p.x(number + 0.5), 180, f"joins version {[7, 7, 8, 9][number]}", color, "middle", 12)
    p.text(20, 212, "batch", weight="600")
    p.rect(p.x(0) + 4, 198, p.x(4) - p.x(0) - 8, 20, FILL[VIOLET], 3)
    p.text(p.x(2), 212, "all rows join the newest version", VIOLET, "middle", 12)
    p.text(20, 252, "The slot of an epoch names the version, so a restart gives the rows that were there before.", SOFT, size=12)
    p.write()


if __name__ == "__main__":
    for draw in (tumble, hop, cumulate, session, days, watermark, cascade, lookup):
        draw()
