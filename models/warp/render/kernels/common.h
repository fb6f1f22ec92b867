/* What the kernels share: coarse grids, textures, bilinear samples and frames.
 *
 * Every kernel is plain C over arrays that the caller (models/warp/render/native.py) has checked.
 * Positions are clamped here, NaN included, so no motion can make a kernel read outside an array.
 */
#ifndef AVATAR_COMMON_H
#define AVATAR_COMMON_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BLACK 16.0f /* Y of no light */

#if defined(_WIN32)
#define KERNEL __declspec(dllexport)
#else
#define KERNEL __attribute__((visibility("default")))
#endif
#define ALWAYS static inline __attribute__((always_inline))

/* Cells of `cell` pixels, `margin` more cells around them, one node at the centre of each.
 * Mirrors models.warp.grid.CoarseGrid. */
typedef struct {
    int32_t left, top, columns, rows, cell, margin;
} Grid;

/* `channels` interleaved bytes per texel; the caller knows how many. */
typedef struct {
    const uint8_t *data;
    int32_t width, height;
} Texture;

/* A tightly packed I420 frame. */
typedef struct {
    uint8_t *data;
    int32_t width, height;
} Frame;

ALWAYS uint8_t *frame_u(const Frame *frame) {
    return frame->data + (size_t)frame->width * frame->height;
}

ALWAYS uint8_t *frame_v(const Frame *frame) {
    return frame_u(frame) + (size_t)(frame->width / 2) * (frame->height / 2);
}

ALWAYS int node_columns(const Grid *grid) { return grid->columns + 2 * grid->margin; }
ALWAYS int node_rows(const Grid *grid) { return grid->rows + 2 * grid->margin; }

/* Pixel of the first node, margin included, of a grid that begins at pixel `start`. */
ALWAYS float node_pixel(const Grid *grid, int start) {
    return (float)(start - grid->margin * grid->cell) + 0.5f * (float)(grid->cell - 1);
}

/* x between low and high; low if x is not a number. */
ALWAYS float clampf(float x, float low, float high) {
    x = x > low ? x : low;
    return x < high ? x : high;
}

ALWAYS float lerpf(float a, float b, float t) { return a + (b - a) * t; }
ALWAYS float maxf(float a, float b) { return a > b ? a : b; }
ALWAYS float minf(float a, float b) { return a < b ? a : b; }
ALWAYS uint8_t to_byte(float value) { return (uint8_t)(clampf(value, 0.0f, 255.0f) + 0.5f); }

/* e^x for x <= 0, relative error below 1e-4, in a form that compilers turn into vector
 * instructions: 2^i times a polynomial of the fraction (Taylor's, about its middle). */
ALWAYS float exp_falling(float x) {
    float t = clampf(x * 1.44269504f, -120.0f, 0.0f);
    int whole = (int)t - 1;
    float f = (t - (float)whole - 0.5f) * 0.69314718f; /* -0.35 to 0.35 */
    float power = 1.41421356f * (1.0f + f * (1.0f + f * (0.5f + f * (0.16666667f + f * 0.04166667f))));
    int32_t bits = (whole + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return scale * power;
}

/* Where a bilinear sample lies: the first of its four texels and 8-bit weights of the others. */
typedef struct {
    int32_t column, row, across, down;
} Place;

/* (x, y) in texels, the first texel's centre at 0; clamped to the texture. */
ALWAYS Place place(float x, float y, int width, int height) {
    int fixed_x = (int)(clampf(x, 0.0f, (float)(width - 1) - 1.0f / 256) * 256.0f);
    int fixed_y = (int)(clampf(y, 0.0f, (float)(height - 1) - 1.0f / 256) * 256.0f);
    Place at = {fixed_x >> 8, fixed_y >> 8, fixed_x & 255, fixed_y & 255};
    return at;
}

/* One channel of the sample at `at`, as 16.16 fixed point. */
ALWAYS int sample_fixed(const Texture *texture, Place at, int channels, int channel) {
    int stride = texture->width * channels;
    const uint8_t *p = texture->data + (size_t)at.row * stride + at.column * channels + channel;
    int upper = (p[0] << 8) + (p[channels] - p[0]) * at.across;
    p += stride;
    int lower = (p[0] << 8) + (p[channels] - p[0]) * at.across;
    return (upper << 8) + (lower - upper) * at.down;
}

ALWAYS float sample(const Texture *texture, Place at, int channels, int channel) {
    return (float)sample_fixed(texture, at, channels, channel) * (1.0f / 65536);
}

/* Bilinear sample of a float plane. */
ALWAYS float sample_plane(const float *plane, float x, float y, int width, int height) {
    x = clampf(x, 0.0f, (float)(width - 1));
    y = clampf(y, 0.0f, (float)(height - 1));
    int column = (int)x, row = (int)y;
    column = column < width - 1 ? column : width - 2;
    row = row < height - 1 ? row : height - 2;
    const float *p = plane + (size_t)row * width + column;
    float across = x - (float)column;
    return lerpf(lerpf(p[0], p[1], across), lerpf(p[width], p[width + 1], across),
                 y - (float)row);
}

#define MAX_SIDE 4096 /* pixels of a canvas; models.engine.Canvas allows no more */
#define PAD 16        /* an upsampled row may begin and end half a cell outside the grid */
#define MAX_LINE (MAX_SIDE + 4 * PAD)

/* Between nodes n and n + 1 lie `samples` points, evenly spaced: half of each node's cell. */
ALWAYS void spread_line(const float *line, int first, int last, int samples, float *out) {
    if (samples == 1) {
        for (int n = first; n < last; n++) out[n] = line[n];
        return;
    }
    for (int n = first - 1; n < last; n++) {
        float *between = out + n * samples + samples / 2;
        float step = (line[n + 1] - line[n]) / (float)samples;
        for (int i = 0; i < samples; i++) between[i] = line[n] + step * ((float)i + 0.5f);
    }
}

/* One row of node values interpolated to `samples` x `samples` points per cell (1 or even).
 *
 * nodes (rows, columns, margin included) -> out[first * samples] ... out[last * samples - 1],
 * columns counted without the margin; half a cell more on both sides is written. */
ALWAYS void upsample_row(const Grid *grid, const float *nodes, int row, int samples, int first,
                         int last, float *out) {
    int width = node_columns(grid);
    float offset = ((float)(row % samples) + 0.5f) / (float)samples - 0.5f;
    int start = row / samples + grid->margin - (offset < 0.0f);
    float down = offset < 0.0f ? offset + 1.0f : offset;
    const float *upper = nodes + (size_t)start * width, *lower = upper + width;
    float buffer[MAX_LINE], *line = buffer + PAD;
    for (int n = first - 1; n <= last; n++)
        line[n] = lerpf(upper[n + grid->margin], lower[n + grid->margin], down);
    switch (samples) { /* constants, so that the compiler unrolls the cells */
    case 1: spread_line(line, first, last, 1, out); break;
    case 2: spread_line(line, first, last, 2, out); break;
    case 4: spread_line(line, first, last, 4, out); break;
    case 8: spread_line(line, first, last, 8, out); break;
    case 16: spread_line(line, first, last, 16, out); break;
    default: spread_line(line, first, last, samples, out);
    }
}

#define CHUNK 512 /* pixels of one go: their samples stay in the first-level cache */

/* Samples of a row of pixels, as 16.16 fixed point: value[channel][i] for i in 0 to n - 1.
 *
 * x, y: positions; `scale` times them plus `shift_x`, `shift_y` are the texture's samples. In three passes, of which
 * the compiler turns the first and the last into vector instructions. */
ALWAYS void sample_row(const Texture *texture, int channels, const float *x, const float *y,
                       float scale, float shift_x, float shift_y, int n,
                       int32_t value[][CHUNK]) {
    int32_t offset[CHUNK], across[CHUNK], down[CHUNK];
    uint32_t upper[CHUNK], lower[CHUNK]; /* the two texels of a row, channels interleaved */
    int stride = texture->width * channels;
    float most_x = (float)(texture->width - 1) - 1.0f / 256;
    float most_y = (float)(texture->height - 1) - 1.0f / 256;
    for (int i = 0; i < n; i++) {
        int fixed_x = (int)(clampf(scale * x[i] + shift_x, 0.0f, most_x) * 256.0f);
        int fixed_y = (int)(clampf(scale * y[i] + shift_y, 0.0f, most_y) * 256.0f);
        offset[i] = (fixed_y >> 8) * stride + (fixed_x >> 8) * channels;
        across[i] = fixed_x & 255;
        down[i] = fixed_y & 255;
    }
    for (int i = 0; i < n; i++) {
        const uint8_t *p = texture->data + offset[i], *q = p + stride;
        if (i % 16 == 0) { /* what the next row of pixels samples is two or three rows below */
            __builtin_prefetch(q + 2 * stride);
            __builtin_prefetch(q + 3 * stride);
        }
        if (channels == 1) {
            upper[i] = p[0] | (uint32_t)p[1] << 8;
            lower[i] = q[0] | (uint32_t)q[1] << 8;
        } else {
            upper[i] = p[0] | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3] << 24;
            lower[i] = q[0] | (uint32_t)q[1] << 16 | (uint32_t)q[2] << 8 | (uint32_t)q[3] << 24;
        }
    }
    for (int channel = 0; channel < channels; channel++)
        for (int i = 0; i < n; i++) {
            int a = (int)(upper[i] >> 16 * channel) & 255;
            int b = (int)(upper[i] >> (16 * channel + 8)) & 255;
            int c = (int)(lower[i] >> 16 * channel) & 255;
            int d = (int)(lower[i] >> (16 * channel + 8)) & 255;
            int high = (a << 8) + (b - a) * across[i], low = (c << 8) + (d - c) * across[i];
            value[channel][i] = (high << 8) + (low - high) * down[i];
        }
}

#endif
