"""A night of one star becomes a table of flux and variance per pixel: ``NIGHT TABLE``."""

import sys

import arrayred as ar

night, table = sys.argv[1:]
(target,) = ar.reduce_night(night)["targets"].children.values()
spectrum = target["spectrum"].to_dataset()
spectrum[["flux", "variance"]].to_dataframe()[["flux", "variance"]].to_csv(table)
