"""The table of the three witnesses for people."""

from vgtool.scoring.cells import Cell, Table, decimal_span, percent_span
from vgtool.scoring.frame import Estimates

WITNESSES = {
    "reliance": "reliance, nats",
    "reliance_random": "reliance on random tokens, nats",
    "sufficiency": "sufficiency, nats",
    "spearman": "rank correlation of attention ratio",
    "accuracy": "accuracy %",
    "difference": "accuracy %, highest - lowest",
    "said_box": "says a box, %",
    "said_none": "says that there is none, %",
    "unreadable": "unreadable, %",
    "box_iou": "IoU of what it says",
    "box_iou_all": "IoU, a miss as 0",
    "box_iou_50": "IoU >= 0.5, %",
    "box_centre_inside": "centre inside, %",
    "box_attention_ratio": "attention ratio in the box it says",
}


SHARES = ("accuracy", "difference", "said_box", "said_none", "unreadable", "box_iou_50", "box_centre_inside")
AGAINST = {"reliance": "with reliance", "box_iou": "with IoU", "reliance_random": "less that on random tokens"}


def view(part: Estimates) -> Table:
    """A line an estimate: what, where, on how many samples."""
    out: list[list[Cell]] = []
    for row in part.frame.iter_rows(named=True):
        what, where = WITNESSES[row["metric"]], row["level"]
        if row["against"] in AGAINST:
            what = f"{what} {AGAINST[row['against']]}"
        if where is None:
            where = "all" if row["layer"] is None else row["layer"]
        elif row["field"] == "reliance third":
            where = f"{where} third by reliance"
        share = row["metric"] in SHARES
        shown = percent_span(row, row["against"] == "lowest") if share else decimal_span(row)
        out.append([what, where, row["n"], shown])
    return Table(part.title, ["witness", "layers", "samples", "value [95 %]"], out, part.notes, ("samples",))
