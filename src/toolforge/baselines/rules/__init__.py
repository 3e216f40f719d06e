"""The rules of the router that is written by hand: each takes a piece of a query and gives its calls, none where it is not meant."""
