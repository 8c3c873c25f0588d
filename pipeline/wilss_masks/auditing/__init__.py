"""`wilss-masks audit`: what is likely wrong in tags, masks and lists, before anybody trains on them."""
