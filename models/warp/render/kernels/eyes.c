/* Blinks and gaze: the layers of an eye moved and laid over each other.
 *
 * Eye coordinates: u from -1 to 1 between the corners, v down, in the same unit
 * (models.warp.build.eyes.eye_shape.EyeShape). */
#include "layers.h"

/* What a chart covers: models.warp.build.eyes.eye_shape.CHART and
 * models.warp.build.eyes.lids.LASH_RANGE. */
#define CHART_LEFT -1.75f
#define CHART_TOP -2.0f
#define CHART_RIGHT 1.75f
#define CHART_BOTTOM 1.4f
#define LASH_LOW -0.25f
#define LASH_HIGH 0.80f

#define MEET 0.90f       /* where the lids meet: 0 the upper lid's open place, 1 the lower's */
#define LOWER_RISE 0.12f /* how far the lower lid comes up in a blink, over the eye's opening */
#define LASH_BAND 0.10f  /* height along the lash line that moves without stretching */
#define SKIN_SLIDE 0.20f /* how far the photo's own skin above the lashes slides down at most: what
                            a closing lid shows beyond that was folded away in the photo */
#define LASH_TURN 1.55f  /* lashes' height goes from 1, open, to 1 - LASH_TURN, shut: they turn */
#define LASH_END 0.45f   /* their height when one looks along them */
#define UNMOVED 0.03f    /* pixels; skin that moves less is left to the warp of the whole person */

/* Where the pixels of a row look their colours up, and how the layers lie over each other. */
typedef struct {
    float u[CHUNK], v[CHUNK];
    float photo_v[CHUNK], shut_v[CHUNK]; /* heights in `skin` and `shut` */
    float ball_u[CHUNK], ball_v[CHUNK];
    float lash_height[CHUNK];
    float shade[CHUNK];    /* share of the eyeball's light that the closing lid takes */
    float unfolded[CHUNK]; /* opacity of the shut eye's skin over the photo's */
    float lids[CHUNK];     /* opacity of both lids over the eyeball */
    float changed[CHUNK];  /* 0 or less where the warp of the whole person is right already */
} Layers;

ALWAYS float bow(const float *form, float arch, float u) {
    return arch * (form[0] + u * (form[1] + u * form[2]));
}

/* Share of the drawn lashes. */
ALWAYS float drawn_lashes(const Look *look) {
    return clampf(look->blink * 3.0f - 0.45f, 0.0f, 1.0f);
}

/* The layers of a row of `n` pixels that came from (x, y), pixels of the canvas. */
static void layers_of_row(const Eye *restrict eye, const Look *restrict look,
                          const float *restrict x, const float *restrict y, int n,
                          Layers *restrict out) {
    const float *m = eye->to_own;
    float blink = look->blink, open_share = 1.0f - blink;
    float gaze_x = look->gaze_x * eye->ball_radius, gaze_y = look->gaze_y * eye->ball_radius;
    float drawn = drawn_lashes(look), rim_drawn = maxf(blink * 3.0f - 2.0f, 0.0f);
    float turned = 1.0f - LASH_TURN * blink;
    turned = 1.0f / (turned < 0.0f ? minf(turned, -LASH_END) : maxf(turned, LASH_END));
    float pixels = eye->pixels;
    /* Beyond the corners only lashes and unfolded skin show, and those in blinks. */
    float reach = blink > 0.0f ? CHART_RIGHT : 1.0f;
    for (int i = 0; i < n; i++) {
        float u = m[0] * x[i] + m[1] * y[i] + m[2];
        float v = m[3] * x[i] + m[4] * y[i] + m[5];
        float arch = maxf(1.0f - u * u, 0.0f), bulge = sqrtf(arch);
        float upper = bow(eye->upper, arch, u), lower = bow(eye->lower, arch, u);
        float opening = maxf(lower - upper, 0.0f);

        /* The upper lid: its edge travels, the skin above follows less and less. */
        float follow = 0.75f * gaze_y * open_share * arch;
        float travel = maxf(blink * MEET * opening + follow, -0.2f * opening);
        float ratio = travel * (1.0f / SKIN_SLIDE);
        float slide = travel / sqrtf(sqrtf(1.0f + ratio * ratio * ratio * ratio));
        float above = upper + travel - v;
        float stretch =
            1.0f - minf(maxf(above - LASH_BAND, 0.0f) / (eye->room + maxf(slide, 0.0f)), 1.0f);
        float lid_v = v - slide * stretch * sqrtf(stretch);

        /* The lower lid comes up a little and takes the skin below with it. */
        float rise = (LOWER_RISE * blink - 0.45f * gaze_y * open_share) * opening;
        float below = v - lower + rise;
        float low_v = v + rise * exp_falling(maxf(below, 0.0f) * -2.5f);

        int on_lid = above > maxf(below, -1.0f / pixels);
        /* Skin that was folded away takes the place of lashes and liner, and last of the rim
         * below. Near the border of the chart there is nothing to take over. */
        float inside = minf(1.45f - fabsf(u), minf(v + 1.9f, 1.2f - v));
        out->unfolded[i] = (on_lid ? drawn : rim_drawn) * clampf(inside * 6.0f, 0.0f, 1.0f);
        out->lids[i] = clampf(maxf(above, below) * pixels + 1.0f, 0.0f, 1.0f);
        out->u[i] = u;
        out->v[i] = v;
        out->photo_v[i] = on_lid ? lid_v : low_v;
        out->shut_v[i] = above > 0.0f ? lid_v : v;
        out->ball_u[i] = u - gaze_x * bulge;
        out->ball_v[i] = v - gaze_y * bulge;
        out->lash_height[i] = above * turned;
        out->shade[i] = 0.30f * blink * exp_falling(minf(above, 0.0f) / (0.5f * opening + 0.02f));
        float shift = fabsf(out->photo_v[i] - v) * pixels;
        float changed = maxf(shift - UNMOVED, maxf(1.0f - out->lids[i], drawn));
        out->changed[i] = fabsf(u) < reach ? changed : 0.0f;
    }
}

ALWAYS Place on_skin(const Eye *eye, const Texture *texture, const Layers *at, int i) {
    const float *m = eye->to_skin;
    float u = at->u[i], v = at->photo_v[i];
    return place(m[0] * u + m[1] * v + m[2], m[3] * u + m[4] * v + m[5], texture->width,
                 texture->height);
}

ALWAYS Place on_chart(const Texture *chart, float u, float v) {
    float across = (float)chart->width / (CHART_RIGHT - CHART_LEFT);
    float down = (float)chart->height / (CHART_BOTTOM - CHART_TOP);
    return place((u - CHART_LEFT) * across - 0.5f, (v - CHART_TOP) * down - 0.5f, chart->width,
                 chart->height);
}

ALWAYS float lashes_at(const Eye *eye, const Look *look, const Layers *at, int i) {
    float drawn = drawn_lashes(look);
    if (drawn == 0.0f) return 0.0f;
    float across = (float)eye->lashes.width / (CHART_RIGHT - CHART_LEFT);
    float down = (float)eye->lashes.height / (LASH_HIGH - LASH_LOW);
    Place where = place((at->u[i] - CHART_LEFT) * across - 0.5f,
                        (LASH_HIGH - at->lash_height[i]) * down - 0.5f, eye->lashes.width,
                        eye->lashes.height);
    return drawn * sample(&eye->lashes, where, 1, 0) * (1.0f / 255);
}

ALWAYS float glasses_at(const Eye *eye, const Layers *at, int i) {
    if (!eye->glasses.data) return 0.0f;
    return sample(&eye->glasses, on_chart(&eye->glasses, at->u[i], at->v[i]), 1, 0) * (1.0f / 255);
}

ALWAYS float luma_of(const Eye *eye, const Look *look, const Layers *at, int i) {
    float out = 0.0f, lids = at->lids[i];
    if (lids > 0.0f) {
        out = sample(&eye->skin, on_skin(eye, &eye->skin, at, i), 1, 0);
        if (at->unfolded[i] > 0.0f) {
            Place shut = on_chart(&eye->shut, at->u[i], at->shut_v[i]);
            out = lerpf(out, sample(&eye->shut, shut, 2, 0), at->unfolded[i]);
        }
    }
    if (lids < 1.0f) {
        /* Catch-lights stay with the light they mirror. */
        float lights = sample(&eye->shut, on_chart(&eye->shut, at->u[i], at->shut_v[i]), 2, 1);
        float ball = sample(&eye->ball, on_chart(&eye->ball, at->ball_u[i], at->ball_v[i]), 1, 0);
        out = lerpf(lerpf(ball + lights, BLACK, at->shade[i]), out, lids);
    }
    return lerpf(out, eye->lash[0], lashes_at(eye, look, at, i));
}

ALWAYS void chroma_of(const Eye *eye, const Look *look, const Layers *at, int i, float out[2]) {
    Place skin = on_skin(eye, &eye->skin_chroma, at, i);
    Place shut = on_chart(&eye->shut_chroma, at->u[i], at->shut_v[i]);
    Place ball = on_chart(&eye->ball_chroma, at->ball_u[i], at->ball_v[i]);
    float lash = lashes_at(eye, look, at, i);
    for (int c = 0; c < 2; c++) {
        float value = sample(&eye->skin_chroma, skin, 2, c);
        if (at->unfolded[i] > 0.0f)
            value = lerpf(value, sample(&eye->shut_chroma, shut, 2, c), at->unfolded[i]);
        if (at->lids[i] < 1.0f)
            value = lerpf(sample(&eye->ball_chroma, ball, 2, c), value, at->lids[i]);
        out[c] = lerpf(value, eye->lash[1 + c], lash);
    }
}

/* Paint one eye into `frame`.
 *
 * grid, nodes: of the whole person (person_nodes): where each pixel came from, and its opacity. */
KERNEL void paint_eye(const Grid *grid, const float *restrict nodes, const Eye *eye,
                      const Look *look, const Frame *frame) {
    size_t count = (size_t)node_rows(grid) * node_columns(grid);
    float buffer[3][MAX_LINE];
    float *x = buffer[0] + PAD, *y = buffer[1] + PAD, *opacity = buffer[2] + PAD;
    Layers at;
    for (int half = 0; half < 2; half++) { /* luma, then chroma at half its resolution */
        int samples = half ? grid->cell / 2 : grid->cell;
        int left = eye->left >> half, right = left + (eye->width >> half);
        int begin = left / samples, end = (right - 1) / samples + 1;
        for (int row = eye->top >> half; row < (eye->top + eye->height) >> half; row++) {
            upsample_row(grid, nodes, row, samples, begin, end, x);
            upsample_row(grid, nodes + count, row, samples, begin, end, y);
            upsample_row(grid, nodes + 2 * count, row, samples, begin, end, opacity);
            int stride = frame->width >> half;
            size_t place = (size_t)((grid->top >> half) + row) * stride + (grid->left >> half);
            for (int start = left; start < right; start += CHUNK) {
                int n = right - start < CHUNK ? right - start : CHUNK;
                layers_of_row(eye, look, x + start, y + start, n, &at);
                uint8_t *luma = frame->data + place + start;
                uint8_t *u = frame_u(frame) + place + start, *v = frame_v(frame) + place + start;
                for (int i = 0; i < n; i++) {
                    if (!(at.changed[i] > 0.0f)) continue;
                    float share = opacity[start + i] * (1.0f - glasses_at(eye, &at, i));
                    if (half) {
                        float chroma[2];
                        chroma_of(eye, look, &at, i, chroma);
                        u[i] = to_byte(lerpf(u[i], chroma[0], share));
                        v[i] = to_byte(lerpf(v[i], chroma[1], share));
                    } else {
                        luma[i] = to_byte(lerpf(luma[i], luma_of(eye, look, &at, i), share));
                    }
                }
            }
        }
    }
}
