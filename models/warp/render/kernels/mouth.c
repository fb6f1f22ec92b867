/* The mouth: both lips, each moved by its own field, and what is seen between them. */
#include "layers.h"

#define LIP_EDGE 1.5f /* pixels over which the upper lip's edge fades: photos are not sharper */

/* What the lips show and hide of the inside at one pixel. */
typedef struct {
    float jaw;  /* opacity of the lower lip over all */
    float hole; /* opacity of the inside over the upper lip */
    float light, dark;   /* what the lips leave of the light; the dark of a narrow slit */
    float opacity[3];    /* of upper teeth, lower teeth and tongue */
} Shares;

ALWAYS float from_back_to_front(const Shares *share, float cavity, float black,
                                const float layers[3]) {
    float out = cavity;
    for (int i = 2; i >= 0; i--) out = lerpf(out, layers[i], share->opacity[i]);
    return lerpf(black, lerpf(out, cavity, share->dark), share->light);
}

/* Node sources, as indices of a grid's nodes, to pixels of the canvas: in place. */
KERNEL void to_canvas(const Grid *grid, float *restrict source) {
    size_t nodes = (size_t)node_rows(grid) * node_columns(grid);
    float cell = (float)grid->cell;
    float left = (float)(grid->left - grid->margin * grid->cell) + 0.5f * cell - 0.5f;
    float top = (float)(grid->top - grid->margin * grid->cell) + 0.5f * cell - 0.5f;
    for (size_t i = 0; i < nodes; i++) {
        source[i] = left + cell * source[i];
        source[nodes + i] = top + cell * source[nodes + i];
    }
}

ALWAYS Place in_inside(const Mouth *mouth, int layer, float x, float y) {
    float scale = (float)mouth->inside_texels;
    const Texture *texture = &mouth->inside[layer];
    return place(scale * (x - (float)mouth->inside_left), scale * (y - (float)mouth->inside_top),
                 texture->width, texture->height);
}

/* Everything a row of the mouth is painted from. */
typedef struct {
    const Grid *grid, *hole, *face;
    const float *lips, *rigid, *opacities; /* node values; see paint_mouth */
    const Mouth *mouth;
    const Frame *frame;
    int left, top;           /* of the mouth's grid inside the face's, pixels */
    int hole_left, hole_top; /* of the hole inside the mouth's grid */
    int begin, end;          /* columns of the face's cells over the mouth */
    float slit_scale, low_scale;
} Scene;

#define LIP_ROWS 4    /* sources of a row: upper lip x, y; lower lip x, y */
#define INSIDE_ROWS 6 /* upper teeth, lower teeth, tongue */

ALWAYS int in_hole_row(const Scene *s, int row) {
    return s->rigid && row >= s->hole_top && row < s->hole_top + s->hole->rows * s->hole->cell;
}

/* Sources of a row of pixels, or of chroma samples (`half` 1), from their nodes. */
ALWAYS void sources(const Scene *s, int row, int half, float *lips[LIP_ROWS],
                    float *inside[INSIDE_ROWS]) {
    size_t count = (size_t)node_rows(s->grid) * node_columns(s->grid);
    size_t hole_count = (size_t)node_rows(s->hole) * node_columns(s->hole);
    for (int i = 0; i < LIP_ROWS; i++)
        upsample_row(s->grid, s->lips + i * count, row >> half, s->grid->cell >> half, 0,
                     s->grid->columns, lips[i]);
    for (int i = 0; in_hole_row(s, row) && i < INSIDE_ROWS; i++)
        upsample_row(s->hole, s->rigid + i * hole_count, (row - s->hole_top) >> half,
                     s->hole->cell >> half, 0, s->hole->columns, inside[i]);
}

/* Samples of a plane of the lips for a row of canvas positions. */
ALWAYS void plane_row(const Mouth *mouth, const Plane *plane, const float *x, const float *y,
                      int n, float *restrict out) {
    float left = (float)mouth->left, top = (float)mouth->top;
    for (int i = 0; i < n; i++)
        out[i] = sample_plane(plane->data, x[i] - left, y[i] - top, plane->width, plane->height);
}

/* Y of the lips for a row of canvas positions, 16.16 fixed point. */
ALWAYS void lip_row(const Mouth *mouth, const float *x, const float *y, int n,
                    int32_t value[][CHUNK]) {
    float texels = (float)mouth->texels;
    sample_row(&mouth->luma, 1, x, y, texels, -texels * (float)mouth->left,
               -texels * (float)mouth->top, n, value);
}

/* What shows of the inside `depth` pixels below the upper lip and `to_lower` above the lower. */
ALWAYS void look_inside(const Scene *s, float depth, float to_lower, float *inside[INSIDE_ROWS],
                        int i, Shares *share, float layers[3]) {
    share->hole = minf(depth * (1.0f / LIP_EDGE), 1.0f);
    /* Through a narrow slit one sees the dark, not the teeth's edges as a row of dots. */
    float slit = (depth + to_lower) * s->slit_scale;
    share->dark = 0.9f * exp_falling(-slit * slit);
    /* Lips shade what is just behind them, the upper one more. */
    share->light = (1.0f - 0.34f * exp_falling(-depth * s->slit_scale)) *
                   (1.0f - 0.25f * exp_falling(-to_lower * s->low_scale));
    for (int k = 0; k < 3; k++) {
        Place at = in_inside(s->mouth, k, inside[2 * k][i], inside[2 * k + 1][i]);
        layers[k] = sample(&s->mouth->inside[k], at, 4, 0);
        share->opacity[k] = sample(&s->mouth->inside[k], at, 4, 1) * (1.0f / 255);
    }
}

/* One row of pixels; its shares serve the chroma. */
static void paint_luma_row(const Scene *s, int row, float *lips[LIP_ROWS],
                           float *inside[INSIDE_ROWS], float *opacity, Shares *shares) {
    const Mouth *mouth = s->mouth;
    int width = s->grid->columns * s->grid->cell;
    sources(s, row, 0, lips, inside);
    upsample_row(s->face, s->opacities, s->top + row, s->face->cell, s->begin, s->end, opacity);
    int hole_width = in_hole_row(s, row) ? s->hole->columns * s->hole->cell : 0;
    for (int start = 0; start < width; start += CHUNK) {
        int n = width - start < CHUNK ? width - start : CHUNK;
        const float *blend = mouth->blend + (size_t)row * width + start;
        float ramp[CHUNK], depth[CHUNK];
        int32_t upper[1][CHUNK], lower[1][CHUNK];
        plane_row(mouth, &mouth->ramp, lips[2] + start, lips[3] + start, n, ramp);
        float least = 1.0f, most = 0.0f;
        for (int i = 0; i < n; i++) {
            least = minf(least, blend[i] > 0.0f ? ramp[i] : 1.0f);
            most = maxf(most, blend[i] > 0.0f ? ramp[i] : 0.0f);
        }
        if (least < 1.0f) lip_row(mouth, lips[0] + start, lips[1] + start, n, upper);
        if (most > 0.0f) lip_row(mouth, lips[2] + start, lips[3] + start, n, lower);
        if (least < 1.0f && hole_width)
            plane_row(mouth, &mouth->depth, lips[0] + start, lips[1] + start, n, depth);
        uint8_t *out = s->frame->data + (size_t)(s->grid->top + row) * s->frame->width +
                       s->grid->left + start;
        for (int i = 0; i < n; i++) {
            Shares *share = &shares[start + i];
            share->jaw = share->hole = 0.0f;
            if (blend[i] == 0.0f) continue;
            share->jaw = clampf(ramp[i], 0.0f, 1.0f);
            float value = 0.0f;
            if (share->jaw < 1.0f) {
                value = (float)upper[0][i] * (1.0f / 65536);
                int at = start + i - s->hole_left;
                if (at >= 0 && at < hole_width && depth[i] > 0.0f) {
                    float layers[3];
                    look_inside(s, depth[i], maxf(1.0f - ramp[i], 0.0f), inside, at, share, layers);
                    float seen = from_back_to_front(share, mouth->cavity[0], mouth->black[0],
                                                    layers);
                    value = lerpf(value, seen, share->hole);
                }
            }
            if (share->jaw > 0.0f)
                value = lerpf(value, (float)lower[0][i] * (1.0f / 65536), share->jaw);
            out[i] = to_byte(lerpf(out[i], value, blend[i] * opacity[s->left + start + i]));
        }
    }
}

/* The shares of four pixels, averaged; what belongs to the inside by how much of it each shows. */
ALWAYS Shares averaged(const Shares *upper, const Shares *lower) {
    const Shares *four[4] = {upper, upper + 1, lower, lower + 1};
    Shares mean = {0};
    for (int i = 0; i < 4; i++) {
        mean.jaw += 0.25f * four[i]->jaw;
        mean.hole += 0.25f * four[i]->hole;
    }
    for (int i = 0; i < 4; i++) {
        if (four[i]->hole == 0.0f) continue;
        float share = 0.25f * four[i]->hole / mean.hole;
        mean.light += share * four[i]->light;
        mean.dark += share * four[i]->dark;
        for (int k = 0; k < 3; k++) mean.opacity[k] += share * four[i]->opacity[k];
    }
    return mean;
}

/* The row of chroma samples of two rows of pixels, the first of them `row`. */
static void paint_chroma_row(const Scene *s, int row, float *lips[LIP_ROWS],
                             float *inside[INSIDE_ROWS], float *opacity, const Shares *upper,
                             const Shares *lower) {
    const Mouth *mouth = s->mouth;
    int width = s->grid->columns * s->grid->cell;
    sources(s, row, 1, lips, inside);
    upsample_row(s->face, s->opacities, (s->top + row) / 2, s->face->cell / 2, s->begin, s->end,
                 opacity);
    size_t start =
        (size_t)((s->grid->top + row) / 2) * (s->frame->width / 2) + (size_t)s->grid->left / 2;
    uint8_t *planes[2] = {frame_u(s->frame) + start, frame_v(s->frame) + start};
    /* Sample i of the tint is the mean of pixels i and i + 1. */
    float left = (float)mouth->left + 0.5f, top = (float)mouth->top + 0.5f;
    for (int x = 0; x < width / 2; x++) {
        const float *b = mouth->blend + (size_t)row * width + 2 * x;
        float blend = 0.25f * (b[0] + b[1] + b[width] + b[width + 1]);
        if (blend == 0.0f) continue;
        blend *= opacity[s->left / 2 + x];
        Shares share = averaged(upper + 2 * x, lower + 2 * x);
        Place on_upper = place(lips[0][x] - left, lips[1][x] - top, mouth->tint.width,
                               mouth->tint.height);
        Place on_lower = place(lips[2][x] - left, lips[3][x] - top, mouth->tint.width,
                               mouth->tint.height);
        Place behind[3] = {0};
        int i = x - s->hole_left / 2;
        for (int k = 0; share.hole > 0.0f && k < 3; k++)
            behind[k] = in_inside(mouth, k, inside[2 * k][i], inside[2 * k + 1][i]);
        for (int c = 0; c < 2; c++) {
            float value = sample(&mouth->tint, on_upper, 2, c);
            if (share.hole > 0.0f) {
                float layers[3];
                for (int k = 0; k < 3; k++)
                    layers[k] = sample(&mouth->inside[k], behind[k], 4, 2 + c);
                value = lerpf(value,
                              from_back_to_front(&share, mouth->cavity[1 + c],
                                                 mouth->black[1 + c], layers),
                              share.hole);
            }
            value = lerpf(value, sample(&mouth->tint, on_lower, 2, c), share.jaw);
            planes[c][x] = to_byte(lerpf(planes[c][x], value, blend));
        }
    }
}

/* Paint the mouth into `frame`.
 *
 * grid, lips: the mouth's grid, and (2 layers, 2, rows, columns) where the upper and the lower lip
 * came from, pixels of the canvas. hole, rigid: the part of the grid where the inside can show,
 * and (3 layers, 2, ...) of its layers; rigid is NULL while the lips are shut. face, person: the
 * whole person's grid and person_nodes, for the opacity. */
KERNEL void paint_mouth(const Grid *grid, const float *restrict lips, const Grid *hole,
                        const float *restrict rigid, const Grid *face,
                        const float *restrict person, const Mouth *mouth, const Frame *frame) {
    float rows[LIP_ROWS + INSIDE_ROWS + 1][MAX_LINE];
    float *on_lips[LIP_ROWS], *inside[INSIDE_ROWS], *opacity = rows[0] + PAD;
    for (int i = 0; i < LIP_ROWS; i++) on_lips[i] = rows[1 + i] + PAD;
    for (int i = 0; i < INSIDE_ROWS; i++) inside[i] = rows[1 + LIP_ROWS + i] + PAD;
    Shares upper[MAX_LINE], lower[MAX_LINE];
    int width = grid->columns * grid->cell;
    int left = grid->left - face->left;
    Scene scene = {
        .grid = grid,
        .hole = hole,
        .face = face,
        .lips = lips,
        .rigid = rigid,
        .opacities = person + 2 * (size_t)node_rows(face) * node_columns(face),
        .mouth = mouth,
        .frame = frame,
        .left = left,
        .top = grid->top - face->top,
        .hole_left = hole->left - grid->left,
        .hole_top = hole->top - grid->top,
        .begin = left / face->cell,
        .end = (left + width - 1) / face->cell + 1,
        .slit_scale = 1.0f / (0.035f * mouth->unit),
        .low_scale = 1.0f / (0.02f * mouth->unit),
    };
    for (int row = 0; row < grid->rows * grid->cell; row += 2) {
        paint_luma_row(&scene, row, on_lips, inside, opacity, upper);
        paint_luma_row(&scene, row + 1, on_lips, inside, opacity, lower);
        paint_chroma_row(&scene, row, on_lips, inside, opacity, upper, lower);
    }
}
