/* Displacement fields on coarse grids: their weighted sum, and its inverse. */
#include "common.h"

#define BLOCK 1024     /* nodes of one go: their sums stay in the first-level cache */
#define SETTLED 0.002f /* nodes; a correction smaller than this ends a row's iterations */

/* out[o, n] = hold[o % 2, n] * sum over k of weights[o, k] * fields[k, n].
 *
 * fields (count, nodes), weights (outputs, count), hold (2, nodes) or NULL, out (outputs, nodes).
 * Most weights of a frame are 0: those fields cost nothing. */
KERNEL void displace(const float *restrict fields, int32_t count, int32_t nodes,
                     const float *restrict weights, int32_t outputs, const float *restrict hold,
                     float *restrict out) {
    for (int start = 0; start < nodes; start += BLOCK) {
        int n = nodes - start < BLOCK ? nodes - start : BLOCK;
        for (int o = 0; o < outputs; o++) {
            float *restrict sum = out + (size_t)o * nodes + start;
            for (int i = 0; i < n; i++) sum[i] = 0.0f;
        }
        for (int k = 0; k < count; k++) {
            const float *field = fields + (size_t)k * nodes + start;
            for (int o = 0; o < outputs; o++) {
                float weight = weights[o * count + k];
                if (weight == 0.0f) continue;
                float *restrict sum = out + (size_t)o * nodes + start;
                for (int i = 0; i < n; i++) sum[i] += weight * field[i];
            }
        }
        for (int o = 0; hold && o < outputs; o++) {
            const float *share = hold + (size_t)(o % 2) * nodes + start;
            float *restrict sum = out + (size_t)o * nodes + start;
            for (int i = 0; i < n; i++) sum[i] *= share[i];
        }
    }
}

/* Where each node's target came from: the inverse of s -> s + moves(s), by iterations of
 * s <- s + step * (node - moves(s) - s), from s = node - moves(node) on.
 *
 * moves (2, rows, columns), x and y in nodes. source (2, rows, columns), node indices. Where the
 * displacement stretches twofold and more, only steps below 1 converge. A row whose corrections
 * all fall below SETTLED is done. */
KERNEL void invert(const float *restrict moves, int32_t rows, int32_t columns, int32_t iterations,
                   float step, float *restrict source) {
    const float *move_x = moves, *move_y = moves + (size_t)rows * columns;
    for (int row = 0; row < rows; row++) {
        float *restrict x = source + (size_t)row * columns;
        float *restrict y = x + (size_t)rows * columns;
        for (int i = 0; i < columns; i++) {
            x[i] = (float)i - move_x[row * columns + i];
            y[i] = (float)row - move_y[row * columns + i];
        }
        for (int iteration = 0; iteration < iterations; iteration++) {
            int unsettled = 0;
            for (int i = 0; i < columns; i++) {
                float at_x = clampf(x[i], 0.0f, (float)(columns - 1));
                float at_y = clampf(y[i], 0.0f, (float)(rows - 1));
                int column = (int)at_x, line = (int)at_y;
                column = column < columns - 1 ? column : columns - 2;
                line = line < rows - 1 ? line : rows - 2;
                float across = at_x - (float)column, down = at_y - (float)line;
                int first = line * columns + column, below = first + columns;
                float dx = lerpf(lerpf(move_x[first], move_x[first + 1], across),
                                 lerpf(move_x[below], move_x[below + 1], across), down);
                float dy = lerpf(lerpf(move_y[first], move_y[first + 1], across),
                                 lerpf(move_y[below], move_y[below + 1], across), down);
                float change_x = step * ((float)i - dx - x[i]);
                float change_y = step * ((float)row - dy - y[i]);
                x[i] += change_x;
                y[i] += change_y;
                unsettled |= (fabsf(change_x) > SETTLED) | (fabsf(change_y) > SETTLED);
            }
            if (!unsettled) break;
        }
    }
}

/* Sources of a coarse grid's nodes, interpolated to a grid of half its cells that begins at the
 * same pixel: both (2, rows, columns) as indices of their own nodes, both margins 1. */
KERNEL void refine(const Grid *coarse, const float *restrict source, const Grid *fine,
                   float *restrict out) {
    int rows = node_rows(fine), columns = node_columns(fine), width = node_columns(coarse);
    for (int axis = 0; axis < 2; axis++)
        for (int row = 0; row < rows; row++) {
            /* Fine node i lies at (i - 1/2) / 2 of the coarse ones; with margins, at i / 2 + 1/4. */
            const float *upper = source + ((size_t)axis * node_rows(coarse) + row / 2) * width;
            const float *lower = upper + width;
            float down = row % 2 ? 0.75f : 0.25f;
            float *restrict to = out + ((size_t)axis * rows + row) * columns;
            for (int i = 0; i < columns; i++) {
                float across = i % 2 ? 0.75f : 0.25f;
                float value = lerpf(lerpf(upper[i / 2], upper[i / 2 + 1], across),
                                    lerpf(lower[i / 2], lower[i / 2 + 1], across), down);
                to[i] = 2.0f * value - 0.5f;
            }
        }
}
