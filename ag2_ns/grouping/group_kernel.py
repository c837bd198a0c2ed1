"""Compiled loops of `lifting.LiftedMasks.group` on the CPU: the rows of a sparse matrix added up by group."""

from __future__ import annotations

import numpy as np

from ag2_ns.ops.jit import jit


@jit
def count_columns(start, stop, first, units, row, column, num_columns, count):
    """How many columns the rows of each group in start:stop have between them."""
    met = np.full(num_columns, -1, np.int64)
    for group in range(start, stop):
        found = 0
        for place in range(first[group], first[group + 1]):
            unit = units[place]
            for entry in range(row[unit], row[unit + 1]):
                if met[column[entry]] != group:
                    met[column[entry]] = group
                    found += 1
        count[group] = found


@jit
def add_rows(start, stop, first, units, row, column, one, other, num_columns, out_row, out_column, out_one, out_other):
    """Sums of `one` and, unless it is empty, of `other`, by column, for the groups in start:stop; columns ascend."""
    met = np.full(num_columns, -1, np.int64)
    sum_one, sum_other = np.zeros(num_columns), np.zeros(num_columns)
    both = len(other) > 0
    for group in range(start, stop):
        begin = out_row[group]
        end = begin
        for place in range(first[group], first[group + 1]):
            unit = units[place]
            for entry in range(row[unit], row[unit + 1]):
                c = column[entry]
                if met[c] != group:
                    met[c] = group
                    sum_one[c] = sum_other[c] = 0.0
                    out_column[end] = c
                    end += 1
                sum_one[c] += one[entry]
                if both:
                    sum_other[c] += other[entry]
        out_column[begin:end].sort()
        for k in range(begin, end):
            out_one[k] = sum_one[out_column[k]]
            if both:
                out_other[k] = sum_other[out_column[k]]
