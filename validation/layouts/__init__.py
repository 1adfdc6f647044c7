"""Layouts as worlds: kinds of logs with known truth, through every command (theory §2, §5, §9).

    python -m validation.layouts --logs 2000 --processes 2

A log is a layout (which rows answer which prompt, at which step, by which policy), a law of
rewards, a design of labels and, perhaps, a breach. Every truth is exact. What must be true of each
cell stands in `cells`; how it is judged in `verdict`.
"""
