/* The whole person: where each node of the face's grid came from, and its pixels. */
#include "layers.h"

#define UNSEEN (1.0f / 512) /* opacity that changes no byte */
#define RAMP 4              /* nodes inside the border of `box` over which its motion fades in */

ALWAYS Jaw sample_jaw(const Jaw *jaw, float x, float y, int columns, int rows) {
    x = clampf(x, 0.0f, (float)(columns - 1));
    y = clampf(y, 0.0f, (float)(rows - 1));
    int column = (int)x, row = (int)y;
    column = column < columns - 1 ? column : columns - 2;
    row = row < rows - 1 ? row : rows - 2;
    const Jaw *p = jaw + (size_t)row * columns + column, *q = p + columns;
    float across = x - (float)column, down = y - (float)row;
    Jaw out = {
        lerpf(lerpf(p[0].on_jaw, p[1].on_jaw, across), lerpf(q[0].on_jaw, q[1].on_jaw, across),
              down),
        lerpf(lerpf(p[0].contact, p[1].contact, across), lerpf(q[0].contact, q[1].contact, across),
              down),
        lerpf(lerpf(p[0].fold, p[1].fold, across), lerpf(q[0].fold, q[1].fold, across), down),
    };
    return out;
}

/* Where the frame of the whole person came from, how opaque it is there, and how much light is
 * left of it.
 *
 * Below the jaw's edge the neck stays with the head: the chin covers it instead of pressing it.
 * Only where the photo's jaw comes up to close the mouth, the neck stretches after it.
 *
 * still: (2, rows, columns) of `grid`, sources as indices of its nodes, of head and neck.
 * box: the part of `grid` that expressions move. moved: (2, ...) of `box`, its sources as indices
 * of its nodes. opacity: (rows, columns) of `grid`; jaw: likewise of `box`. contact, fold: how
 * dark a lowered jaw and deepened folds are.
 * out: (4, rows, columns): x, y in pixels of the canvas, opacity, light. */
KERNEL void person_nodes(const Grid *grid, const float *restrict still, const Grid *box,
                         const float *restrict moved, const float *restrict opacity,
                         const Jaw *restrict jaw, float contact, float fold,
                         float *restrict out) {
    int rows = node_rows(grid), columns = node_columns(grid);
    int box_rows = node_rows(box), box_columns = node_columns(box);
    size_t nodes = (size_t)rows * columns, box_nodes = (size_t)box_rows * box_columns;
    float cell = (float)grid->cell;
    float left = node_pixel(grid, grid->left), top = node_pixel(grid, grid->top);
    /* The box's first node among the grid's. */
    int first_column = (box->left - grid->left) / box->cell + grid->margin - box->margin;
    int first_row = (box->top - grid->top) / box->cell + grid->margin - box->margin;

    for (size_t i = 0; i < nodes; i++) {
        out[i] = left + cell * still[i];
        out[nodes + i] = top + cell * still[nodes + i];
        out[2 * nodes + i] = sample_plane(opacity, still[i], still[nodes + i], columns, rows);
        out[3 * nodes + i] = 1.0f;
    }
    for (int row = 0; row < box_rows; row++) {
        int from_border = row < box_rows - 1 - row ? row : box_rows - 1 - row;
        for (int column = 0; column < box_columns; column++) {
            size_t b = (size_t)row * box_columns + column;
            size_t i = (size_t)(first_row + row) * columns + first_column + column;
            float x = moved[b], y = moved[box_nodes + b];
            Jaw at = sample_jaw(jaw, x, y, box_columns, box_rows);
            int inner = from_border;
            if (column < inner) inner = column;
            if (box_columns - 1 - column < inner) inner = box_columns - 1 - column;
            float share = minf((float)inner * (1.0f / RAMP), 1.0f);
            x += (float)first_column;
            y += (float)first_row;
            float of_face = sample_plane(opacity, x, y, columns, rows);
            float follows = share * at.on_jaw;
            out[i] = lerpf(out[i], left + cell * x, follows);
            out[nodes + i] = lerpf(out[nodes + i], top + cell * y, follows);
            float *opaque = &out[2 * nodes + i];
            *opaque = lerpf(*opaque, of_face, follows);
            float shade = (1.0f - at.on_jaw) * at.contact * contact + at.fold * fold;
            out[3 * nodes + i] = 1.0f - share * shade * *opaque;
        }
    }
}

/* out = value where opaque, out blended with it where the silhouette is soft. */
ALWAYS void lay(const int32_t *value, const float *opacity, int n, uint8_t *restrict out) {
    for (int i = 0; i < n; i++) {
        float under = (float)out[i];
        float over = (float)value[i] * (1.0f / 65536);
        out[i] = (uint8_t)(lerpf(under, over, opacity[i]) + 0.5f);
    }
}

/* Columns of a row of opacities between which anything is seen; none: first == last. */
ALWAYS void seen(const float *opacity, int *first, int *last) {
    while (*first < *last && opacity[*first] < UNSEEN) ++*first;
    while (*last > *first && opacity[*last - 1] < UNSEEN) --*last;
}

/* Lay the person over the background: the luma of `frame`.
 *
 * nodes: of person_nodes. texture: Y, `texels` samples per pixel and axis. */
KERNEL void warp_luma(const Grid *grid, const float *restrict nodes, const Texture *texture,
                      int32_t texels, const Frame *frame) {
    size_t count = (size_t)node_rows(grid) * node_columns(grid);
    float buffer[3][MAX_LINE];
    float *x = buffer[0] + PAD, *y = buffer[1] + PAD, *opacity = buffer[2] + PAD;
    int32_t value[1][CHUNK];
    int cell = grid->cell;
    for (int row = 0; row < grid->rows * cell; row++) {
        int first = 0, last = grid->columns * cell;
        upsample_row(grid, nodes + 2 * count, row, cell, 0, grid->columns, opacity);
        seen(opacity, &first, &last);
        if (first == last) continue;
        upsample_row(grid, nodes, row, cell, first / cell, (last - 1) / cell + 1, x);
        upsample_row(grid, nodes + count, row, cell, first / cell, (last - 1) / cell + 1, y);
        uint8_t *out = frame->data + (size_t)(grid->top + row) * frame->width + grid->left;
        for (int i = first; i < last; i += CHUNK) {
            int n = last - i < CHUNK ? last - i : CHUNK;
            sample_row(texture, 1, x + i, y + i, (float)texels, 0.0f, 0.0f, n, value);
            lay(value[0], opacity + i, n, out + i);
        }
    }
}

/* The same of the chroma: texture holds U and V of every 2 x 2 pixels, interleaved. */
KERNEL void warp_chroma(const Grid *grid, const float *restrict nodes, const Texture *texture,
                        const Frame *frame) {
    size_t count = (size_t)node_rows(grid) * node_columns(grid);
    float buffer[3][MAX_LINE];
    float *x = buffer[0] + PAD, *y = buffer[1] + PAD, *opacity = buffer[2] + PAD;
    int32_t value[2][CHUNK];
    int half = grid->cell / 2;
    for (int row = 0; row < grid->rows * half; row++) {
        int first = 0, last = grid->columns * half;
        upsample_row(grid, nodes + 2 * count, row, half, 0, grid->columns, opacity);
        seen(opacity, &first, &last);
        if (first == last) continue;
        upsample_row(grid, nodes, row, half, first / half, (last - 1) / half + 1, x);
        upsample_row(grid, nodes + count, row, half, first / half, (last - 1) / half + 1, y);
        size_t start = (size_t)(grid->top / 2 + row) * (frame->width / 2) + grid->left / 2;
        uint8_t *u = frame_u(frame) + start, *v = frame_v(frame) + start;
        for (int i = first; i < last; i += CHUNK) {
            int n = last - i < CHUNK ? last - i : CHUNK;
            /* Chroma sample c is the mean of pixels 2 c and 2 c + 1: its centre is 2 c + 1/2. */
            sample_row(texture, 2, x + i, y + i, 0.5f, -0.25f, -0.25f, n, value);
            lay(value[0], opacity + i, n, u + i);
            lay(value[1], opacity + i, n, v + i);
        }
    }
}

/* Folds and the jaw's shadow: Y = (Y - 16) * light + 16, from row `first_row` of cells on. */
KERNEL void shade(const Grid *grid, const float *restrict nodes, int32_t first_row,
                  const Frame *frame) {
    size_t count = (size_t)node_rows(grid) * node_columns(grid);
    int width = node_columns(grid);
    float buffer[MAX_LINE], *light = buffer + PAD;
    const float *lights = nodes + 3 * count;
    for (int row = first_row; row < grid->rows; row++) {
        /* Cells between nodes in full light stay as they are. */
        int begin = grid->columns, end = 0;
        const float *near = lights + (size_t)(row + grid->margin - 1) * width + grid->margin;
        for (int column = 0; column < grid->columns; column++)
            for (int r = 0; r < 3; r++)
                if (fabsf(near[r * width + column] - 1.0f) > UNSEEN) {
                    begin = column - 1 < begin ? column - 1 : begin;
                    end = column + 2;
                }
        if (begin >= end) continue;
        begin = begin > 0 ? begin : 0;
        end = end < grid->columns ? end : grid->columns;
        for (int i = 0; i < grid->cell; i++) {
            int y = row * grid->cell + i;
            upsample_row(grid, lights, y, grid->cell, begin, end, light);
            uint8_t *out = frame->data + (size_t)(grid->top + y) * frame->width + grid->left;
            for (int x = begin * grid->cell; x < end * grid->cell; x++)
                out[x] = (uint8_t)(clampf(BLACK + ((float)out[x] - BLACK) * light[x], 0, 255) + 0.5f);
        }
    }
}
