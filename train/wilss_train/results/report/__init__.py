"""What came of a run: its log while it trains, and at the end report.json and a page that shows it.

`log` is written line by line and survives kills; `document` says in JSON what a program wants to know, `page` shows
the same to people, in one file that loads nothing from anywhere.
"""
