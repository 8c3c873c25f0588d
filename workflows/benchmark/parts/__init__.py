"""One part of the table a module; each returns rows {what, figure, asked, ...}."""
